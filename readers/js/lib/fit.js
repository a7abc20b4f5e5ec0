/** How a picture of any size becomes one of the model's size: squash, crop or pad. */

import { resample } from "./resample.js";

const PADDING = 128; // the value of the pixels around a padded picture, in every channel

/** Return how many source pixels one pixel of the model covers, horizontally and vertically. */
function ratio(width, height, spec) {
  const across = width / spec.width;
  const down = height / spec.height;
  if (spec.resize === "squash") return [across, down];
  const both = spec.resize === "crop" ? Math.min(across, down) : Math.max(across, down);
  return [both, both];
}

/** Round to the nearest integer; half to even, as Python does. */
function rounded(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}

/**
 * Return 1, 2, 4 or 8: by what a JPEG is divided while it is decoded, so that it keeps twice the size it is resized to.
 *
 * @param {number} width Upright width in pixels.
 * @param {number} height Upright height in pixels.
 * @param {import("../edgecnn.js").Spec} spec
 */
export function jpegDivisor(width, height, spec) {
  if (Math.max(width, height) < 8) return 1; // below one block of the transform
  const [across, down] = ratio(width, height, spec);
  const leastWidth = Math.ceil((2 * width) / across - 1e-6);
  const leastHeight = Math.ceil((2 * height) / down - 1e-6);
  return [8, 4, 2].find((by) => width >= by * leastWidth && height >= by * leastHeight) ?? 1;
}

/**
 * Resize a picture in the model's colours to the model's size, in one antialiased step.
 *
 * @param {{width: number, height: number, data: Uint8Array}} picture With as many channels as the model.
 * @param {import("../edgecnn.js").Spec} spec
 * @returns {Uint8Array} Shape (height, width, channels) of the model.
 */
export function fitted({ width, height, data }, spec) {
  const channels = spec.colour === "grey" ? 1 : 3;
  if (width === spec.width && height === spec.height) return data;
  const [across, down] = ratio(width, height, spec);
  if (spec.resize === "pad") {
    const inner = [Math.max(1, rounded(width / across)), Math.max(1, rounded(height / down))];
    const picture = resample(data, width, height, channels, inner[0], inner[1], spec.filter);
    const left = (spec.width - inner[0]) >> 1;
    const top = (spec.height - inner[1]) >> 1;
    const canvas = new Uint8Array(spec.width * spec.height * channels).fill(PADDING);
    const row = inner[0] * channels;
    for (let y = 0; y < inner[1]; y++) {
      canvas.set(picture.subarray(y * row, (y + 1) * row), ((top + y) * spec.width + left) * channels);
    }
    return canvas;
  }
  const left = (width - spec.width * across) / 2;
  const top = (height - spec.height * down) / 2;
  const box = [Math.max(0, left), Math.max(0, top), Math.min(width, width - left), Math.min(height, height - top)];
  return resample(data, width, height, channels, spec.width, spec.height, spec.filter, box);
}
