/** The bytes of the strips of a TIFF file: PackBits, LZW and Deflate (TIFF, revision 6.0, 1992, sections 9 and 13). */

import { PictureError } from "./errors.js";
import { inflated } from "./inflate.js";

const UNCOMPRESSED = 1;
const LZW = 5;
const PACKBITS = 32773;
const DEFLATE = [8, 32946];

/** Numbers of the compressions that are decoded. */
export const COMPRESSIONS = Object.freeze([UNCOMPRESSED, LZW, PACKBITS, ...DEFLATE]);

/** Those before which differences of samples can be taken. */
export const PREDICTED = Object.freeze([LZW, ...DEFLATE]);

const CLEAR = 256;
const END = 257;
const MOST_CODES = 4096;

function packbits(data, needed) {
  const found = new Uint8Array(needed);
  let [at, out] = [0, 0];
  while (at < data.length && out < needed) {
    const count = data[at++];
    if (count < 128) {
      const part = data.subarray(at, Math.min(at + count + 1, at + needed - out));
      found.set(part, out);
      at += count + 1;
      out += part.length;
    } else if (count > 128) {
      found.fill(data[at++], out, out + 257 - count);
      out += 257 - count;
    }
  }
  return found.subarray(0, Math.min(out, needed));
}

/** Codes of 9 to 12 bits, the highest bit first; they grow one code early. */
function lzw(data, needed) {
  const prefix = new Uint16Array(MOST_CODES);
  const last = new Uint8Array(MOST_CODES);
  const length = new Uint16Array(MOST_CODES).fill(1, 0, CLEAR);
  for (let i = 0; i < CLEAR; i++) last[i] = i;
  const found = new Uint8Array(needed);
  let [at, out, buffer, bits, width, next, previous] = [0, 0, 0, 0, 9, 258, -1];
  while (out < needed) {
    while (bits < width && at < data.length) {
      buffer = ((buffer << 8) | data[at++]) & 0xffffff;
      bits += 8;
    }
    if (bits < width) break;
    bits -= width;
    const code = (buffer >> bits) & ((1 << width) - 1);
    if (code === END) break;
    if (code === CLEAR) {
      [width, next, previous] = [9, 258, -1];
      continue;
    }
    if (code > next || (previous < 0 && code > CLEAR))
      throw new PictureError("damaged or unsupported picture: a broken LZW code");
    const isNew = code === next; // the sequence before, and its first byte once more
    const source = isNew ? previous : code;
    let first = source;
    for (let one = source, place = out + length[source] - 1; place >= out; place--, one = prefix[one]) {
      first = last[one];
      if (place < needed) found[place] = first;
    }
    out += length[source];
    if (isNew && out < needed) found[out] = first;
    out += isNew ? 1 : 0;
    if (previous >= 0 && next < MOST_CODES) {
      [prefix[next], last[next], length[next]] = [previous, first, length[previous] + 1];
      next += 1;
    }
    if (next + 1 >= 1 << width && width < 12) width += 1;
    previous = code;
  }
  return found.subarray(0, Math.min(out, needed));
}

/**
 * Return the bytes of a strip.
 *
 * @param {Uint8Array} data The strip in the file.
 * @param {number} compression One of {@link COMPRESSIONS}.
 * @param {number} needed Bytes of the rows in the strip.
 * @throws {PictureError} There are fewer.
 */
export function stripBytes(data, compression, needed) {
  let found = data.subarray(0, needed);
  if (compression === LZW) found = lzw(data, needed);
  else if (compression === PACKBITS) found = packbits(data, needed);
  else if (DEFLATE.includes(compression)) found = inflated([data], needed).data;
  if (found.length < needed) throw new PictureError("damaged or unsupported picture: the TIFF file is truncated");
  return found;
}
