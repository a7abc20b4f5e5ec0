/**
 * TIFF files: 8 bits a sample, grey, palette or RGB, in strips, uncompressed or compressed by Deflate (TIFF, revision
 * 6.0, 1992). Other kinds are refused by name.
 */

import { PictureError } from "./errors.js";
import { upright } from "./exif.js";
import { inflated } from "./inflate.js";

const SIZES = { 1: 1, 3: 2, 4: 4 };
const WHITE_IS_ZERO = 0;
const BLACK_IS_ZERO = 1;
const RGB = 2;
const PALETTE = 3;
const UNCOMPRESSED = 1;
const DEFLATE = [8, 32946];
const UNASSOCIATED_ALPHA = 2;

const notDecoded = (what) => new PictureError(`this reader does not decode TIFF files with ${what}: save it as JPEG or PNG`);

/** Return the values of the tags of the first directory that hold whole numbers. */
function tagsOf(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const little = data[0] === 0x49;
  const found = new Map();
  const start = view.getUint32(4, little);
  for (let i = 0, at = start + 2; i < view.getUint16(start, little); i++, at += 12) {
    const size = SIZES[view.getUint16(at + 2, little)];
    const count = view.getUint32(at + 4, little);
    if (size === undefined || count * size > data.length) continue;
    const place = count * size > 4 ? view.getUint32(at + 8, little) : at + 8;
    const read = (index) =>
      size === 1 ? view.getUint8(place + index) : size === 2 ? view.getUint16(place + 2 * index, little) : view.getUint32(place + 4 * index, little);
    found.set(view.getUint16(at, little), Array.from({ length: count }, (_, index) => read(index)));
  }
  return found;
}

/**
 * Decode a TIFF file. It is turned upright.
 *
 * @param {Uint8Array} data The bytes of the file.
 * @param {(width: number, height: number) => void} checkSize Called before the pixels are decoded.
 * @returns {{picture: import("./picture.js").Picture, orientation: number}}
 * @throws {PictureError} The file is damaged, or of a kind that is not decoded.
 */
export function decodeTiff(data, checkSize) {
  const tags = tagsOf(data);
  const one = (tag, otherwise) => tags.get(tag)?.[0] ?? otherwise;
  const [width, height] = [one(256, 0), one(257, 0)];
  checkSize(width, height);
  const channels = one(277, 1);
  const photometric = one(262, WHITE_IS_ZERO);
  const extra = one(338);
  check(tags, one, channels, photometric, extra);
  const samples = strips(data, tags, one, width * channels, height);
  if (one(317, 1) === 2) undoDifferences(samples, width, channels);
  const picture = pictureOf(samples, { width, height }, channels, photometric, tags.get(320));
  return { picture: upright(picture, one(274, 1)), orientation: 1 };
}

function check(tags, one, channels, photometric, extra) {
  const bits = tags.get(258) ?? [1];
  if (!bits.every((value) => value === 8)) throw notDecoded(`samples of ${Math.max(...bits)} bits`);
  if (one(339, 1) !== 1) throw notDecoded("samples that are not unsigned numbers");
  if (![UNCOMPRESSED, ...DEFLATE].includes(one(259, UNCOMPRESSED))) throw notDecoded(`compression ${one(259)}`);
  if (one(284, 1) !== 1 && channels > 1) throw notDecoded("a plane for each sample");
  if (tags.has(322)) throw notDecoded("tiles");
  if (one(266, 1) !== 1) throw notDecoded("the lowest bit of each byte first");
  if (![1, 2].includes(one(317, 1))) throw notDecoded(`predictor ${one(317)}`);
  const isRgb = photometric === RGB && (channels === 3 || (channels === 4 && extra === UNASSOCIATED_ALPHA));
  const isSingle = [WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE].includes(photometric) && channels === 1;
  if (!isRgb && !isSingle) throw notDecoded(`${channels} samples a pixel of photometric interpretation ${photometric}`);
}

function strips(data, tags, one, rowLength, height) {
  const samples = new Uint8Array(rowLength * height);
  const rows = Math.min(one(278, height), height);
  const [offsets, counts] = [tags.get(273) ?? [], tags.get(279) ?? []];
  for (let i = 0; i * rows < height; i++) {
    const needed = Math.min(rows, height - i * rows) * rowLength;
    const part = data.subarray(offsets[i] ?? data.length, (offsets[i] ?? 0) + (counts[i] ?? 0));
    const found = one(259, UNCOMPRESSED) === UNCOMPRESSED ? part : inflated([part], needed).data;
    if (found.length < needed) throw new PictureError("damaged or unsupported picture: the TIFF file is truncated");
    samples.set(found.subarray(0, needed), i * rows * rowLength);
  }
  return samples;
}

/** Predictor 2: each sample is stored as the difference from the pixel before. */
function undoDifferences(samples, width, channels) {
  const rowLength = width * channels;
  for (let start = 0; start < samples.length; start += rowLength) {
    for (let i = channels; i < rowLength; i++) samples[start + i] += samples[start + i - channels];
  }
}

function pictureOf(data, size, channels, photometric, map) {
  if (photometric === RGB) return { mode: channels === 4 ? "RGBA" : "RGB", ...size, data };
  if (photometric === WHITE_IS_ZERO) return { mode: "L", ...size, data: data.map((value) => 255 - value) };
  if (photometric === BLACK_IS_ZERO) return { mode: "L", ...size, data };
  if (map?.length !== 768) throw new PictureError("damaged or unsupported picture: the TIFF file has no colour map");
  const isWide = map.some((value) => value > 255); // some writers store 8 bits
  const palette = new Uint8Array(768);
  for (let i = 0; i < 256; i++) for (let c = 0; c < 3; c++) palette[3 * i + c] = isWide ? map[256 * c + i] >> 8 : map[256 * c + i];
  return { mode: "P", ...size, data, palette };
}
