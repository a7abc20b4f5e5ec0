/** Decompression of zlib data up to a limit: a file of a few bytes can hold gigabytes. */

import { Z_BUF_ERROR, Z_NO_FLUSH, Z_OK, Z_STREAM_END, ZStream, zlibInflate, zlibInflateInit } from "pako";

const STEP = 1 << 16; // bytes of output at a time

/**
 * Decompress zlib data, at most `limit` bytes; what follows is left out.
 *
 * @param {Iterable<Uint8Array>} parts The data, in pieces.
 * @param {number} limit In bytes.
 * @returns {{data: Uint8Array, ended: boolean}} `ended`: whether they end within the limit, with the right checksum.
 * @throws {Error} The data are damaged; data that are only cut off are not.
 */
export function inflated(parts, limit) {
  let found = new Uint8Array(Math.min(limit, STEP));
  let length = 0;
  let status = Z_OK;
  const stream = new ZStream();
  zlibInflateInit(stream);
  for (const part of parts) {
    stream.input = part;
    stream.next_in = 0;
    stream.avail_in = part.length;
    do {
      found = withRoom(found, length, limit);
      stream.output = found;
      stream.next_out = length;
      stream.avail_out = found.length - length;
      status = zlibInflate(stream, Z_NO_FLUSH);
      length = stream.next_out;
      if (![Z_OK, Z_STREAM_END, Z_BUF_ERROR].includes(status)) throw new Error(stream.msg || "broken zlib data");
    } while (status === Z_OK && stream.avail_out === 0 && length < limit);
    if (status === Z_STREAM_END || length === limit) break;
  }
  return { data: found.subarray(0, length), ended: status === Z_STREAM_END };
}

function withRoom(found, length, limit) {
  if (length < found.length || length === limit) return found;
  const larger = new Uint8Array(Math.min(limit, 2 * length));
  larger.set(found);
  return larger;
}
