/** PNG files of every colour type, bit depth and interlacing (PNG specification, third edition, W3C 2025). */

import { PictureError } from "./errors.js";
import { orientationOf } from "./exif.js";
import { inflated } from "./inflate.js";
import { defiltered } from "./png_filter.js";
import { eightBits } from "./picture.js";

const SIGNATURE_LENGTH = 8;
const GREY = 0;
const RGB = 2;
const PALETTE = 3;
const GREY_ALPHA = 4;
const RGB_ALPHA = 6;
const CHANNELS = { [GREY]: 1, [RGB]: 3, [PALETTE]: 1, [GREY_ALPHA]: 2, [RGB_ALPHA]: 4 };
const DEPTHS = { [GREY]: [1, 2, 4, 8, 16], [PALETTE]: [1, 2, 4, 8] };
const LONGEST_PROFILE = 1 << 18;
const CHECKED = ["IHDR", "PLTE", "tRNS", "eXIf"]; // the data of the pixels have a checksum of their own

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let i = 0; i < 8; i++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

const damaged = (what) => new PictureError(`damaged or unsupported picture: ${what}`);

function crcOf(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** Return the content of the chunks that determine the pixels, by kind; the last may be cut off. */
function chunksOf(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const found = { IDAT: [], texts: [] };
  let at = SIGNATURE_LENGTH;
  while (at + 8 <= data.length) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...data.subarray(at + 4, at + 8));
    const content = data.subarray(at + 8, at + 8 + length);
    const end = at + length + 12;
    if (kind === "IDAT") found.IDAT.push(content);
    else if (kind === "tEXt" || kind === "zTXt") found.texts.push({ kind, content });
    else if (CHECKED.includes(kind) && !(kind in found) && (kind === "eXIf" || !found.IDAT.length)) {
      if (end > data.length || crcOf(data.subarray(at + 4, end - 4)) !== view.getUint32(end - 4)) {
        throw damaged(`the PNG file has a broken chunk ${kind}`);
      }
      found[kind] = content;
    } else if (kind === "IEND") break;
    at = end;
  }
  return found;
}

/** Return the EXIF data in a text chunk: older programs wrote them in hexadecimal. */
function exifOf({ kind, content }) {
  const latin1 = new TextDecoder("latin1");
  const [keyword] = latin1.decode(content.subarray(0, 80)).split("\0", 1);
  if (!/^Raw profile type (exif|APP1)$/.test(keyword)) return undefined;
  let text = content.subarray(keyword.length + 1);
  try {
    if (kind === "zTXt") text = inflated([text.subarray(1)], LONGEST_PROFILE).data; // one byte names the method
  } catch {
    return undefined;
  }
  const digits = latin1.decode(text).split("\n").slice(3).join("").replace(/\s/g, "");
  if (!/^([0-9a-f]{2})*$/i.test(digits)) return undefined;
  const bytes = Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  return latin1.decode(bytes.subarray(0, 6)) === "Exif\0\0" ? bytes.subarray(6) : bytes;
}

function headerOf(content) {
  if (content?.length !== 13) throw damaged("the PNG file has no header");
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const [depth, type, , , interlaced] = content.subarray(8);
  if (!(type in CHANNELS) || !(DEPTHS[type] ?? [8, 16]).includes(depth)) {
    throw damaged(`the PNG file has the colour type ${type} with ${depth} bits`);
  }
  const channels = CHANNELS[type];
  return { width: view.getUint32(0), height: view.getUint32(4), depth, type, channels, interlaced: interlaced !== 0 };
}

/**
 * Decode a PNG file.
 *
 * @param {Uint8Array} data The bytes of the file.
 * @param {(width: number, height: number) => void} checkSize Called before the pixels are decoded.
 * @returns {{picture: import("./picture.js").Picture, orientation: number}}
 * @throws {PictureError} The file is damaged.
 */
export function decodePng(data, checkSize) {
  const chunks = chunksOf(data);
  const header = headerOf(chunks.IHDR);
  checkSize(header.width, header.height);
  const exif = chunks.eXIf ?? chunks.texts.map(exifOf).find((found) => found !== undefined);
  return { picture: pictureOf(header, defiltered(chunks.IDAT, header), chunks), orientation: orientationOf(exif) };
}

/** Return the picture. `samples` have their depth in the file; those of 16 bits are numbers up to 65,535. */
function pictureOf({ width, height, depth, type }, samples, chunks) {
  const { PLTE: palette, tRNS: key } = chunks;
  const wide = depth === 16;
  const size = { width, height };
  const keys = key === undefined ? undefined : keysOf(key, type);
  if (type === PALETTE) {
    if (palette === undefined) throw damaged("the PNG file has no palette");
    return { mode: "P", ...size, data: samples, palette, alpha: key };
  }
  if (type === GREY && wide) {
    if (keys === undefined) return { mode: "I;16", ...size, data: samples };
    const pairs = new Uint8Array(2 * samples.length);
    samples.forEach((value, i) => pairs.set([eightBits(value), value === keys[0] ? 0 : 255], 2 * i));
    return { mode: "LA", ...size, data: pairs };
  }
  if (type === RGB && wide && keys !== undefined) return withAlpha(samples, keys, size);
  const bytes = wide ? Uint8Array.from(samples, (value) => value >> 8) : samples;
  if (type === GREY_ALPHA) return wide ? withColours(bytes, size) : { mode: "LA", ...size, data: bytes };
  if (type === RGB_ALPHA) return { mode: "RGBA", ...size, data: bytes };
  if (type === RGB) return { mode: "RGB", ...size, data: bytes, transparent: keys };
  const step = 255 / ((1 << depth) - 1);
  const transparent = keys && [depth < 8 ? Math.floor(keys[0] * step) : keys[0]];
  if (depth === 1) return { mode: "1", ...size, data: bytes, transparent };
  return { mode: "L", ...size, data: depth < 8 ? bytes.map((value) => value * step) : bytes, transparent };
}

function keysOf(key, type) {
  const count = { [GREY]: 1, [RGB]: 3 }[type];
  if (count === undefined) return undefined;
  if (key.length < 2 * count) throw damaged("the PNG file has a broken chunk tRNS");
  return Array.from({ length: count }, (_, i) => key[2 * i] * 256 + key[2 * i + 1]);
}

function withAlpha(samples, keys, size) {
  const data = new Uint8Array(4 * size.width * size.height);
  for (let i = 0; i < size.width * size.height; i++) {
    const pixel = samples.subarray(3 * i, 3 * i + 3);
    data.set(
      [...pixel].map((value) => value >> 8),
      4 * i,
    );
    data[4 * i + 3] = keys.every((value, c) => value === pixel[c]) ? 0 : 255;
  }
  return { mode: "RGBA", ...size, data };
}

/** Pillow has no mode for grey of 16 bits with alpha. */
function withColours(pairs, size) {
  const data = new Uint8Array(2 * pairs.length);
  for (let i = 0; i < pairs.length; i += 2) data.set([pairs[i], pairs[i], pairs[i], pairs[i + 1]], 2 * i);
  return { mode: "RGBA", ...size, data };
}
