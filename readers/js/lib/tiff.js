/**
 * TIFF and BigTIFF files in strips: grey and palette of 1 to 16 bits, RGB and CMYK of 8 and 16 bits (TIFF, revision
 * 6.0, 1992). Other kinds are refused by name.
 */

import { PictureError } from "./errors.js";
import { upright } from "./exif.js";
import { COMPRESSIONS, PREDICTED, stripBytes } from "./tiff_strips.js";

const READERS = {
  1: (view, at) => view.getUint8(at),
  3: (view, at, little) => view.getUint16(at, little),
  4: (view, at, little) => view.getUint32(at, little),
  16: (view, at, little) => Number(view.getBigUint64(at, little)),
};
const MOST_CHANNELS = 8; // of a picture that is decoded, and some more
const SIZES = { 1: 1, 3: 2, 4: 4, 16: 8 };
const WHITE_IS_ZERO = 0;
const BLACK_IS_ZERO = 1;
const RGB = 2;
const PALETTE = 3;
const CMYK = 5;
const SEPARATE_PLANES = 2;
const DIFFERENCES = 2;
const UNSPECIFIED = 0; // the meaning of a further sample of each pixel
const ALPHA = 2;
/** Bits of a sample, by photometric interpretation. */
const DEPTHS = {
  [WHITE_IS_ZERO]: [1, 2, 4, 8, 12, 16],
  [BLACK_IS_ZERO]: [1, 2, 4, 8, 12, 16],
  [RGB]: [8, 16],
  [PALETTE]: [1, 2, 4, 8],
  [CMYK]: [8, 16],
};
/** Samples of a pixel, by photometric interpretation, without further ones. */
const COLOURS = { [WHITE_IS_ZERO]: 1, [BLACK_IS_ZERO]: 1, [RGB]: 3, [PALETTE]: 1, [CMYK]: 4 };

const notDecoded = (what) => {
  throw new PictureError(`this reader does not decode TIFF files with ${what}: save it as JPEG or PNG`);
};

/**
 * Return the tags of the first directory that hold whole numbers. Values are read one by one when they are used: each of
 * 65,535 tags can claim as many as the file has bytes.
 *
 * @param {Uint8Array} data
 * @returns {Map<number, {count: number, at: (index: number) => number | undefined}>}
 */
function tagsOf(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const little = data[0] === 0x49;
  const isBig = data[2] === 0x2b || data[3] === 0x2b;
  const wide = READERS[isBig ? 16 : 4];
  const [entrySize, inline, countSize] = isBig ? [20, 8, 8] : [12, 4, 2];
  const start = wide(view, isBig ? 8 : 4, little);
  const entries = isBig ? wide(view, start, little) : view.getUint16(start, little);
  const found = new Map();
  for (let i = 0, at = start + countSize; i < Math.min(entries, 65_535); i++, at += entrySize) {
    const kind = view.getUint16(at + 2, little);
    const count = wide(view, at + 4, little);
    const size = count * SIZES[kind];
    if (!(size <= data.length)) continue;
    const inside = at + entrySize - inline;
    const place = size > inline ? wide(view, inside, little) : inside;
    const value = (k) => (k < count ? READERS[kind](view, place + k * SIZES[kind], little) : undefined);
    found.set(view.getUint16(at, little), { count, at: value });
  }
  return found;
}

/** Return the values of a tag, at most some of them. */
const valuesOf = ({ count, at }, most) => Array.from({ length: Math.min(count, most) }, (_, i) => at(i));

/** Return what determines the pixels, from the tags. */
function layoutOf(tags) {
  const one = (tag, otherwise) => tags.get(tag)?.at(0) ?? otherwise;
  const bits = tags.has(258) ? valuesOf(tags.get(258), MOST_CHANNELS) : [1];
  const layout = {
    width: one(256, 0),
    height: one(257, 0),
    depth: bits[0],
    compression: one(259, 1),
    photometric: one(262, WHITE_IS_ZERO),
    offsets: tags.get(273),
    channels: one(277, 1),
    rows: one(278, one(257, 0)),
    counts: tags.get(279),
    separate: one(284, 1) === SEPARATE_PLANES && one(277, 1) > 1,
    predictor: one(317, 1),
    map: tags.get(320),
    extra: one(338),
  };
  const { depth, photometric, channels, extra } = layout;
  if (bits.some((value) => value !== depth) || !DEPTHS[photometric]?.includes(depth)) {
    notDecoded(`samples of ${bits.join(", ")} bits of photometric interpretation ${photometric}`);
  }
  if (one(339, 1) !== 1) notDecoded("samples that are not unsigned numbers");
  if (!COMPRESSIONS.includes(layout.compression)) notDecoded(`compression ${layout.compression}`);
  if (tags.has(322)) notDecoded("tiles");
  if (one(266, 1) !== 1) notDecoded("the lowest bit of each byte first");
  if (!PREDICTED.includes(layout.compression)) layout.predictor = 1; // libtiff ignores it, too
  if (layout.predictor !== 1 && !(layout.predictor === DIFFERENCES && [8, 16].includes(depth))) {
    notDecoded(`predictor ${layout.predictor}`);
  }
  if (layout.separate && depth === 16 && layout.compression === 1) notDecoded("uncompressed planes of 16 bits");
  const further = channels - COLOURS[photometric];
  const isKnown = [UNSPECIFIED, ALPHA].includes(extra);
  const canHaveOne = photometric === RGB || (photometric === BLACK_IS_ZERO && depth === 8);
  if (further !== 0 && !(further === 1 && isKnown && canHaveOne)) notDecoded(`${channels} samples a pixel`);
  return layout;
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
  const layout = layoutOf(tags);
  checkSize(layout.width, layout.height);
  const picture = pictureOf(samplesOf(data, layout), layout);
  return { picture: upright(picture, tags.get(274)?.at(0) ?? 1), orientation: 1 };
}

/** Return the samples, the channels of a pixel side by side; numbers of the depth of the file. */
function samplesOf(data, layout) {
  const { width, height, channels, depth, separate, offsets, counts, compression } = layout;
  const planes = separate ? channels : 1;
  const inPlane = channels / planes;
  const rowLength = Math.ceil((width * inPlane * depth) / 8);
  const rows = Math.max(1, Math.min(layout.rows, height));
  const strips = Math.ceil(height / rows);
  const samples = new Uint16Array(width * height * channels);
  for (let i = 0; i < strips * planes; i++) {
    const [plane, first] = [Math.floor(i / strips), (i % strips) * rows];
    const count = Math.min(rows, height - first);
    const start = offsets?.at(i) ?? data.length;
    const bytes = stripBytes(data.subarray(start, start + (counts?.at(i) ?? 0)), compression, count * rowLength);
    for (let y = 0; y < count; y++) {
      const row = unpacked(
        bytes.subarray(y * rowLength, (y + 1) * rowLength),
        width * inPlane,
        depth,
        data[0] === 0x49,
      );
      if (layout.predictor === DIFFERENCES) {
        const mask = (1 << depth) - 1;
        for (let x = inPlane; x < row.length; x++) row[x] = (row[x] + row[x - inPlane]) & mask;
      }
      const out = (first + y) * width * channels + plane;
      if (planes === 1) samples.set(row, out);
      else row.forEach((value, x) => (samples[out + x * channels] = value));
    }
  }
  return samples;
}

function unpacked(bytes, count, depth, little) {
  const row = new Uint16Array(count);
  for (let x = 0; x < count; x++) {
    if (depth === 8) row[x] = bytes[x];
    else if (depth === 16)
      row[x] = little ? bytes[2 * x] | (bytes[2 * x + 1] << 8) : (bytes[2 * x] << 8) | bytes[2 * x + 1];
    else {
      const bit = x * depth;
      const two = (bytes[bit >> 3] << 8) | (bytes[(bit >> 3) + 1] ?? 0);
      row[x] = (two >> (16 - depth - (bit & 7))) & ((1 << depth) - 1);
    }
  }
  return row;
}

function pictureOf(samples, { width, height, depth, photometric, channels, map, extra }) {
  const size = { width, height };
  const most = (1 << depth) - 1;
  const bytes = (change) => Uint8Array.from(samples, change);
  const kept = channels > COLOURS[photometric] && extra === UNSPECIFIED ? channels - 1 : channels;
  if (kept < channels) samples = samples.filter((_, i) => i % channels < kept);
  if (photometric === RGB || photometric === CMYK) {
    const mode = photometric === CMYK ? "CMYK" : kept === 4 ? "RGBA" : "RGB";
    return { mode, ...size, data: bytes((value) => value >> (depth - 8)) };
  }
  if (photometric === PALETTE)
    return { mode: "P", ...size, data: bytes((value) => value), palette: paletteOf(map, most + 1) };
  if (kept === 2) return { mode: "LA", ...size, data: bytes((value) => value) };
  const upward = photometric === WHITE_IS_ZERO ? (value) => most - value : (value) => value;
  if (depth === 1) return { mode: "1", ...size, data: bytes(upward) };
  const isInverted = photometric === WHITE_IS_ZERO && depth > 8; // scaled first, as cnn_infer does
  const scaled = (value) => Math.floor((value * 255 + (most >> 1)) / most);
  if (isInverted) return { mode: "L", ...size, data: bytes((value) => 255 - scaled(value)) };
  return { mode: "L", ...size, data: bytes((value) => scaled(upward(value))) };
}

function paletteOf(tag, count) {
  if (tag?.count !== 3 * count)
    throw new PictureError("damaged or unsupported picture: the TIFF file has no colour map");
  const map = valuesOf(tag, 3 * count);
  const isWide = map.some((value) => value > 255); // some writers store 8 bits
  const palette = new Uint8Array(3 * count);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) palette[3 * i + c] = isWide ? map[count * c + i] >> 8 : map[count * c + i];
  }
  return palette;
}
