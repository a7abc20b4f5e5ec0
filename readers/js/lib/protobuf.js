/** The fields of a message of Protocol Buffers (https://protobuf.dev/programming-guides/encoding/). */

const VARINT = 0;
const FIXED64 = 1;
/** The wire type of texts, bytes and messages. */
export const BYTES = 2;
const FIXED32 = 5;
const LONGEST_VARINT = 10;

/**
 * Read a varint.
 *
 * @param {Uint8Array} data
 * @param {number} at
 * @returns {[number, number]} The value, exact up to 2^53, and the position behind it.
 */
function varint(data, at) {
  let value = 0;
  for (let i = 0; i < LONGEST_VARINT && at + i < data.length; i++) {
    const byte = data[at + i];
    value += (byte & 127) * 2 ** (7 * i);
    if (byte < 128) return [value, at + i + 1];
  }
  throw new RangeError("a number is cut off");
}

/**
 * Return a number as a varint.
 *
 * @param {number} value A whole number, at most 2^53.
 * @returns {Uint8Array}
 */
export function toVarint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Uint8Array.of(...bytes, value);
}

/**
 * Yield the fields of a message. The arrays are views of it.
 *
 * @param {Uint8Array} data
 * @returns {Generator<{number: number, kind: number, whole: Uint8Array, content: Uint8Array}>} `whole` includes the key.
 * @throws {RangeError} The bytes are not a message.
 */
export function* fields(data) {
  let at = 0;
  while (at < data.length) {
    const start = at;
    let [tag, length] = [0, 0];
    [tag, at] = varint(data, at);
    const kind = tag % 8;
    if (kind === VARINT) length = varint(data, at)[1] - at;
    else if (kind === FIXED64) length = 8;
    else if (kind === FIXED32) length = 4;
    else if (kind === BYTES) [length, at] = varint(data, at);
    else throw new RangeError(`a field is of the unknown kind ${kind}`);
    const end = at + length;
    if (end > data.length) throw new RangeError("a field is cut off");
    yield { number: Math.floor(tag / 8), kind, whole: data.subarray(start, end), content: data.subarray(at, end) };
    at = end;
  }
}
