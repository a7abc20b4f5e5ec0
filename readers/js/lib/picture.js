/**
 * Decoded pictures, and their conversion to the model's colours.
 *
 * @typedef {object} Picture
 * @property {"1" | "L" | "LA" | "RGB" | "RGBA" | "P" | "CMYK" | "I;16"} mode The colour mode, by Pillow's name.
 * @property {number} width In pixels.
 * @property {number} height In pixels.
 * @property {Uint8Array | Uint16Array} data Samples, row by row, the channels of a pixel side by side. Uint16Array for
 *   `I;16`. 0 and 1 for `1`, indices of the palette for `P`.
 * @property {Uint8Array} [palette] For `P`: red, green, blue of each colour.
 * @property {Uint8Array} [alpha] For `P`: the alpha of each colour; those behind its end are opaque.
 * @property {number[]} [transparent] For `1`, `L` and `RGB`: the samples of pixels that are transparent.
 */

/** Scale values of 16 bits to 0 to 255, rounded to the nearest. */
export const eightBits = (value) => Math.floor((value * 255 + 32767) / 65535);

const grey = (r, g, b) => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;

/** Divide by 255, rounded, for values up to 65,025, as Pillow does. */
const by255 = (value) => (value + 128 + ((value + 128) >> 8)) >> 8;

const ON_WHITE_BITS = 7; // Pillow blends with 7 bits behind the point

/** Blend a sample with white. */
function onWhite(value, alpha) {
  if (alpha === 0) return 255;
  const mixed = (value * alpha + 255 * (255 - alpha)) << ON_WHITE_BITS;
  const rounded = mixed + (0x80 << ON_WHITE_BITS);
  return (((rounded >> 8) + rounded) >> 8) >> ON_WHITE_BITS;
}

/** Functions that write red, green, blue and alpha of the pixel at an index, by mode. */
const READERS = {
  1:
    ({ data, transparent }) =>
    (i, out) => {
      out[0] = out[1] = out[2] = data[i] * 255;
      out[3] = transparent !== undefined && out[0] === transparent[0] ? 0 : 255;
    },
  L:
    ({ data, transparent }) =>
    (i, out) => {
      out[0] = out[1] = out[2] = data[i];
      out[3] = transparent !== undefined && data[i] === transparent[0] ? 0 : 255;
    },
  LA:
    ({ data }) =>
    (i, out) => {
      out[0] = out[1] = out[2] = data[2 * i];
      out[3] = data[2 * i + 1];
    },
  RGB:
    ({ data, transparent }) =>
    (i, out) => {
      for (let c = 0; c < 3; c++) out[c] = data[3 * i + c];
      out[3] = transparent !== undefined && transparent.every((value, c) => value === out[c]) ? 0 : 255;
    },
  RGBA:
    ({ data }) =>
    (i, out) => {
      for (let c = 0; c < 4; c++) out[c] = data[4 * i + c];
    },
  P:
    ({ data, palette, alpha = new Uint8Array() }) =>
    (i, out) => {
      for (let c = 0; c < 3; c++) out[c] = palette[3 * data[i] + c] ?? 0;
      out[3] = alpha[data[i]] ?? 255;
    },
  CMYK:
    ({ data }) =>
    (i, out) => {
      const white = 255 - data[4 * i + 3];
      for (let c = 0; c < 3; c++) out[c] = Math.max(0, white - by255(data[4 * i + c] * white));
      out[3] = 255;
    },
  "I;16":
    ({ data }) =>
    (i, out) => {
      out[0] = out[1] = out[2] = eightBits(data[i]);
      out[3] = 255;
    },
};

/**
 * Convert a picture to mode `L` or `RGB`: transparency is blended with white, 16-bit values are divided by 257.
 *
 * @param {Picture} picture
 * @param {"grey" | "rgb"} colour
 * @returns {Picture}
 */
export function inColour(picture, colour) {
  const mode = colour === "grey" ? "L" : "RGB";
  if (picture.mode === mode && picture.transparent === undefined) return picture;
  const { width, height } = picture;
  const count = width * height;
  const isGrey = colour === "grey";
  const channelsAreOne = ["1", "L", "LA", "I;16"].includes(picture.mode); // their grey needs no weights
  const read = READERS[picture.mode](picture);
  const data = new Uint8Array(count * (isGrey ? 1 : 3));
  const pixel = [0, 0, 0, 255];
  for (let i = 0; i < count; i++) {
    read(i, pixel);
    const alpha = pixel[3];
    if (alpha !== 255) for (let c = 0; c < 3; c++) pixel[c] = onWhite(pixel[c], alpha);
    if (!isGrey) data.set([pixel[0], pixel[1], pixel[2]], 3 * i);
    else data[i] = channelsAreOne ? pixel[0] : grey(pixel[0], pixel[1], pixel[2]);
  }
  return { mode, width, height, data };
}
