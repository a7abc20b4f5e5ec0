/** GIF files: the first frame, with transparency outside of it (GIF89a specification, CompuServe, 1990). */

import { joined } from "./bytes.js";
import { PictureError } from "./errors.js";

const EXTENSION = 0x21;
const GRAPHIC_CONTROL = 0xf9;
const IMAGE = 0x2c;
const MOST_CODES = 4096;
/** First row and step of each pass of an interlaced frame. */
const PASSES = [
  [0, 8],
  [4, 8],
  [2, 4],
  [1, 2],
];

const damaged = (what) => new PictureError(`damaged or unsupported picture: ${what}`);

/** Join the blocks from a position on; returns them and the position behind them. */
function blocksOf(data, at) {
  const parts = [];
  for (;;) {
    if (at >= data.length) return { bytes: joined(parts), end: at };
    const length = data[at];
    if (length === 0) return { bytes: joined(parts), end: at + 1 };
    parts.push(data.subarray(at + 1, at + 1 + length));
    at += 1 + length;
  }
}

/** Decompress LZW codes to `count` indices. */
function indicesOf(bytes, leastBits, count) {
  const clear = 1 << leastBits;
  const prefix = new Uint16Array(MOST_CODES);
  const last = new Uint8Array(MOST_CODES);
  const length = new Uint16Array(MOST_CODES).fill(1, 0, clear);
  for (let i = 0; i < clear; i++) last[i] = i;
  const found = new Uint8Array(count);
  let [out, at, buffer, bits] = [0, 0, 0, 0];
  let width = leastBits + 1;
  let next = clear + 2;
  let previous = -1;
  while (out < count) {
    while (bits < width) {
      if (at === bytes.length) throw damaged("the GIF file is truncated");
      buffer |= bytes[at++] << bits;
      bits += 8;
    }
    const code = buffer & ((1 << width) - 1);
    buffer >>>= width;
    bits -= width;
    if (code === clear) {
      width = leastBits + 1;
      next = clear + 2;
      previous = -1;
      continue;
    }
    if (code === clear + 1) throw damaged("the GIF file is truncated");
    if (code > next || (previous < 0 && code >= clear)) throw damaged("a broken GIF code");
    const isNew = code === next; // the sequence before, and its first index once more
    const source = isNew ? previous : code;
    const size = length[source] + (isNew ? 1 : 0);
    let place = out + length[source] - 1;
    let first = source;
    for (let one = source, left = length[source]; left > 0; left--, place--, one = prefix[one]) {
      if (place < count) found[place] = last[one];
      first = last[one];
    }
    if (isNew && out + size <= count) found[out + size - 1] = first;
    if (previous >= 0 && next < MOST_CODES) {
      prefix[next] = previous;
      last[next] = first;
      length[next] = length[previous] + 1;
      next++;
      if (next === 1 << width && width < 12) width++;
    }
    previous = code;
    out += size;
  }
  return found;
}

/** Put the rows of an interlaced frame in their order. */
function inOrder(indices, width, height) {
  const sorted = new Uint8Array(indices.length);
  let row = 0;
  for (const [first, step] of PASSES) {
    for (let y = first; y < height; y += step, row++)
      sorted.set(indices.subarray(row * width, (row + 1) * width), y * width);
  }
  return sorted;
}

/** Return the position of the first frame, and the index of its transparent colour. */
function findFrame(data, start) {
  let at = start;
  let transparent;
  while (at < data.length && data[at] !== IMAGE) {
    if (data[at] === EXTENSION) {
      const { bytes, end } = blocksOf(data, at + 2);
      if (data[at + 1] === GRAPHIC_CONTROL && bytes.length >= 4 && bytes[0] & 1) transparent = bytes[3];
      at = end;
    } else if (data[at] === 0x3b) break;
    else at += 1;
  }
  if (at + 11 > data.length || data[at] !== IMAGE) throw damaged("the GIF file has no frame");
  return { at, transparent };
}

/**
 * Decode the first frame of a GIF file.
 *
 * @param {Uint8Array} data The bytes of the file.
 * @param {(width: number, height: number) => void} checkSize Called before the pixels are decoded.
 * @returns {{picture: import("./picture.js").Picture, orientation: number}}
 * @throws {PictureError} The file is damaged.
 */
export function decodeGif(data, checkSize) {
  if (data.length < 13) throw damaged("the GIF file is truncated");
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const screen = { width: view.getUint16(6, true), height: view.getUint16(8, true) };
  checkSize(screen.width, screen.height);
  const size = (flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  const global = data.subarray(13, 13 + size(data[10]));
  const { at, transparent } = findFrame(data, 13 + global.length);
  const [left, top, width, height] = [1, 3, 5, 7].map((offset) => view.getUint16(at + offset, true));
  const flags = data[at + 9];
  const local = data.subarray(at + 10, at + 10 + size(flags));
  const codes = at + 10 + local.length;
  if (!(data[codes] >= 1 && data[codes] <= 8)) throw damaged("a broken GIF code size");
  checkSize(width, height);
  const coded = indicesOf(blocksOf(data, codes + 1).bytes, data[codes], width * height);
  const indices = flags & 0x40 ? inOrder(coded, width, height) : coded;
  const frame = { left, top, width, height, indices };
  return { picture: onScreen(screen, frame, local.length ? local : global, transparent), orientation: 1 };
}

/** Return the screen with the frame on it; what the frame does not cover is transparent. */
function onScreen({ width, height }, frame, palette, transparent) {
  const covers = !frame.left && !frame.top && frame.width === width && frame.height === height;
  const isRamp = palette.every((value, i) => value === Math.floor(i / 3)); // Pillow calls it grey
  if (covers || transparent !== undefined) {
    const data = covers ? frame.indices : new Uint8Array(width * height).fill(transparent);
    if (!covers) place(frame, width, height, (from, to) => (data[to] = frame.indices[from]));
    const keys = transparent === undefined ? undefined : [transparent];
    if (isRamp) return { mode: "L", width, height, data, transparent: keys };
    const alpha = keys && Uint8Array.from({ length: 256 }, (_, i) => (i === transparent ? 0 : 255));
    return { mode: "P", width, height, data, palette, alpha };
  }
  const data = new Uint8Array(4 * width * height);
  place(frame, width, height, (from, to) => {
    const index = frame.indices[from];
    for (let c = 0; c < 3; c++) data[4 * to + c] = isRamp ? index : (palette[3 * index + c] ?? 0);
    data[4 * to + 3] = 255;
  });
  return { mode: "RGBA", width, height, data };
}

/** Call a function with the index of each pixel of a frame, and with its index on the screen. */
function place(frame, width, height, copy) {
  for (let y = 0; y < Math.min(frame.height, height - frame.top); y++) {
    for (let x = 0; x < Math.min(frame.width, width - frame.left); x++) {
      copy(y * frame.width + x, (frame.top + y) * width + frame.left + x);
    }
  }
}
