/** Decompression of zlib data up to a limit: a file of a few bytes can hold gigabytes. */

import { Unzlib } from "fflate";

const STEP = 1 << 16; // bytes of input at a time; they give at most about a thousand times as many

/**
 * Decompress zlib data, at most `limit` bytes; what follows is left out.
 *
 * @param {Iterable<Uint8Array>} parts The data, in pieces.
 * @param {number} limit In bytes.
 * @returns {{data: Uint8Array, ended: boolean}} `ended`: whether the data end within the limit.
 * @throws {Error} The data are damaged.
 */
export function inflated(parts, limit) {
  let found = new Uint8Array(Math.min(limit, STEP));
  let length = 0;
  let ended = false;
  const stream = new Unzlib((chunk, final) => {
    const wanted = Math.min(limit, length + chunk.length);
    if (wanted > found.length) {
      const larger = new Uint8Array(Math.min(limit, Math.max(wanted, 2 * found.length)));
      larger.set(found.subarray(0, length));
      found = larger;
    }
    found.set(chunk.subarray(0, wanted - length), length);
    ended = final && length + chunk.length <= limit;
    length = wanted;
  });
  for (const part of parts) {
    for (let at = 0; at < part.length && length < limit; at += STEP) stream.push(part.subarray(at, at + STEP), false);
  }
  if (length < limit) {
    try {
      stream.push(new Uint8Array(), true);
    } catch {
      ended = false; // cut off: what was found counts
    }
  }
  return { data: found.subarray(0, length), ended };
}
