/** The samples of a PNG file: decompression, filters, bit depths and Adam7 interlacing. */

import { lineOf, PictureError } from "./errors.js";
import { inflated } from "./inflate.js";

/** First column, first row, step of columns and of rows of each pass of Adam7. */
const ADAM7 = [
  [0, 0, 8, 8],
  [4, 0, 8, 8],
  [0, 4, 4, 8],
  [2, 0, 4, 4],
  [0, 2, 2, 4],
  [1, 0, 2, 2],
  [0, 1, 1, 2],
];
const WHOLE = [[0, 0, 1, 1]];

function paeth(left, above, corner) {
  const first = Math.abs(above - corner);
  const second = Math.abs(left - corner);
  const third = Math.abs(left + above - 2 * corner);
  if (first <= second && first <= third) return left;
  return second <= third ? above : corner;
}

/** Undo the filter of one row in place. `at` is the position of its kind; `step` is the bytes of a pixel. */
function undoFilter(data, at, length, step, previous) {
  const kind = data[at];
  const start = at + 1;
  for (let i = 0; kind > 0 && i < length; i++) {
    const left = i < step ? 0 : data[start + i - step];
    const above = previous < 0 ? 0 : data[previous + i];
    if (kind === 1) data[start + i] += left;
    else if (kind === 2) data[start + i] += above;
    else if (kind === 3) data[start + i] += (left + above) >> 1;
    else if (kind === 4) {
      data[start + i] += paeth(left, above, i < step || previous < 0 ? 0 : data[previous + i - step]);
    } else throw new PictureError(`damaged or unsupported picture: a PNG filter of the unknown kind ${kind}`);
  }
}

/**
 * Return the samples of a PNG file.
 *
 * @param {Uint8Array[]} parts The contents of its IDAT chunks.
 * @param {{width: number, height: number, depth: number, channels: number, interlaced: boolean}} header
 * @returns {Uint8Array | Uint16Array} Row by row, the channels of a pixel side by side; Uint16Array for 16 bits.
 * @throws {PictureError} The data are damaged or cut off.
 */
export function defiltered(parts, { width, height, depth, channels, interlaced }) {
  const passes = (interlaced ? ADAM7 : WHOLE)
    .map(([x, y, dx, dy]) => ({
      x,
      y,
      dx,
      dy,
      columns: Math.ceil((width - x) / dx),
      rows: Math.ceil((height - y) / dy),
    }))
    .filter(({ columns, rows }) => columns > 0 && rows > 0)
    .map((pass) => ({ ...pass, length: Math.ceil((pass.columns * channels * depth) / 8) }));
  const needed = passes.reduce((sum, { rows, length }) => sum + rows * (length + 1), 0);
  const data = decompressed(parts, needed);
  const samples = depth === 16 ? new Uint16Array(width * height * channels) : new Uint8Array(width * height * channels);
  const step = Math.max(1, (channels * depth) >> 3);
  let at = 0;
  for (const { x, y, dx, dy, columns, rows, length } of passes) {
    let previous = -1;
    for (let row = 0; row < rows; row++) {
      undoFilter(data, at, length, step, previous);
      previous = at + 1;
      const out = ((y + row * dy) * width + x) * channels;
      if (dx === 1 && depth === 8) samples.set(data.subarray(previous, previous + length), out);
      else unpack(data, previous, columns, channels, depth, samples, out, dx * channels);
      at += length + 1;
    }
  }
  return samples;
}

function decompressed(parts, needed) {
  let found;
  try {
    found = inflated(parts, needed).data;
  } catch (error) {
    throw new PictureError(`damaged or unsupported picture: the PNG data: ${lineOf(error)}`);
  }
  if (found.length < needed) throw new PictureError("damaged or unsupported picture: the PNG file is truncated");
  return found;
}

function unpack(data, start, columns, channels, depth, samples, out, step) {
  const mask = (1 << depth) - 1;
  for (let i = 0; i < columns * channels; i++) {
    const place = out + Math.floor(i / channels) * step + (i % channels);
    if (depth === 16) samples[place] = data[start + 2 * i] * 256 + data[start + 2 * i + 1];
    else {
      const bit = i * depth;
      samples[place] = (data[start + (bit >> 3)] >> (8 - depth - (bit & 7))) & mask;
    }
  }
}
