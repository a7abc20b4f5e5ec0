/** BMP files without compression: 1, 4 and 8 bits with palette, 24 and 32 bits (BITMAPINFOHEADER and later). */

import { PictureError } from "./errors.js";

const NONE = 0;
const BIT_FIELDS = 3;
const COMMON_MASKS = [0xff0000, 0xff00, 0xff]; // of red, green and blue: the order without masks, too

const notDecoded = (what) => new PictureError(`this reader does not decode BMP files ${what}: save it as JPEG or PNG`);

/**
 * Decode a BMP file.
 *
 * @param {Uint8Array} data The bytes of the file.
 * @param {(width: number, height: number) => void} checkSize Called before the pixels are decoded.
 * @returns {{picture: import("./picture.js").Picture, orientation: number}}
 * @throws {PictureError} The file is damaged, or compressed.
 */
export function decodeBmp(data, checkSize) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const [start, header] = [view.getUint32(10, true), view.getUint32(14, true)];
  if (header < 40) throw notDecoded("with a header of OS/2");
  const [width, signed] = [view.getInt32(18, true), view.getInt32(22, true)];
  const height = Math.abs(signed);
  checkSize(Math.max(0, width), height);
  const [bits, compression] = [view.getUint16(28, true), view.getUint32(30, true)];
  const hasMasks = compression === BIT_FIELDS && bits === 32;
  if (compression !== NONE && !hasMasks) throw notDecoded("with compression");
  if (hasMasks && !COMMON_MASKS.every((mask, i) => mask === view.getUint32(54 + 4 * i, true))) {
    throw notDecoded("with other bit fields");
  }
  if (![1, 4, 8, 24, 32].includes(bits)) throw notDecoded(`with ${bits} bits a pixel`);
  const stride = Math.ceil((width * bits) / 32) * 4;
  if (start + (height - 1) * stride + Math.ceil((width * bits) / 8) > data.length) {
    throw new PictureError("damaged or unsupported picture: the BMP file is truncated");
  }
  const row = (y) => data.subarray(start + (signed < 0 ? y : height - 1 - y) * stride);
  const hasAlpha = hasMasks && header >= 56 && view.getUint32(66, true) === 0xff000000;
  const picture =
    bits <= 8
      ? indexed(view, data, header, { width, height, bits }, row)
      : coloured({ width, height, bits }, row, hasAlpha);
  return { picture, orientation: 1 };
}

function indexed(view, data, header, { width, height, bits }, row) {
  const stated = view.getUint32(46, true) || 1 << bits;
  if (stated > 65536) throw new PictureError(`damaged or unsupported picture: a BMP palette of ${stated} colours`);
  const count = Math.min(stated, 256);
  const palette = new Uint8Array(3 * count);
  for (let i = 0; i < count; i++) for (let c = 0; c < 3; c++) palette[3 * i + c] = data[14 + header + 4 * i + 2 - c];
  const indices = new Uint8Array(width * height);
  const mask = (1 << bits) - 1;
  for (let y = 0; y < height; y++) {
    const line = row(y);
    for (let x = 0; x < width; x++) {
      const bit = x * bits;
      indices[y * width + x] = (line[bit >> 3] >> (8 - bits - (bit & 7))) & mask;
    }
  }
  const isBilevel = count === 2 && palette.every((value, i) => value === (i < 3 ? 0 : 255));
  const isGrey = palette.every((value, i) => value === Math.floor(i / 3));
  const mode = isBilevel ? "1" : isGrey ? "L" : "P"; // as Pillow names them
  return { mode, width, height, data: indices, palette };
}

function coloured({ width, height, bits }, row, hasAlpha) {
  const step = bits / 8;
  const channels = hasAlpha ? 4 : 3;
  const pixels = new Uint8Array(channels * width * height);
  let anyAlpha = false;
  for (let y = 0, out = 0; y < height; y++) {
    const line = row(y);
    for (let x = 0; x < width; x++, out += channels) {
      for (let c = 0; c < 3; c++) pixels[out + c] = line[step * x + 2 - c];
      if (hasAlpha) anyAlpha = (pixels[out + 3] = line[step * x + 3]) !== 0 || anyAlpha;
    }
  }
  if (!hasAlpha || anyAlpha) return { mode: hasAlpha ? "RGBA" : "RGB", width, height, data: pixels };
  // the fourth byte was never used
  return { mode: "RGB", width, height, data: pixels.filter((_, i) => i % 4 !== 3) };
}
