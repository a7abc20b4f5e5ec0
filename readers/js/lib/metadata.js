/**
 * The metadata of an ONNX file. ONNX Runtime for JavaScript does not give it, so this walks over the file: a
 * `ModelProto` of Protocol Buffers, whose field 14 holds pairs of key (1) and value (2), both UTF-8.
 */

import { ModelError } from "./errors.js";

const GRAPH = 7; // fields of messages in onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto
const INITIALIZER = 5;
const NODE = 1;
const ATTRIBUTE = 5;
const TENSOR = 5;
const EXTERNAL_DATA = 13;
const METADATA_PROPS = 14;
const KEY = 1;
const VALUE = 2;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
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
 * Yield number and content of each field that holds bytes.
 *
 * @param {Uint8Array} data
 * @returns {Generator<[number, Uint8Array]>}
 */
function* fields(data) {
  let at = 0;
  while (at < data.length) {
    let tag;
    [tag, at] = varint(data, at);
    const kind = tag % 8;
    let length;
    if (kind === VARINT) [, at] = varint(data, at);
    else if (kind === FIXED64) at += 8;
    else if (kind === FIXED32) at += 4;
    else if (kind === BYTES) {
      [length, at] = varint(data, at);
      if (length > data.length - at) throw new RangeError("a field is cut off");
      yield [Math.floor(tag / 8), data.subarray(at, at + length)];
      at += length;
    } else throw new RangeError(`a field is of the unknown kind ${kind}`);
    if (at > data.length) throw new RangeError("a field is cut off");
  }
}

/**
 * Whether weights lie in another file: a model from elsewhere must not choose which file is read.
 *
 * @param {Uint8Array} model The bytes of an ONNX file.
 */
export function refersToFiles(model) {
  const tensors = inside([model], GRAPH).flatMap((graph) => [
    ...inside([graph], INITIALIZER),
    ...inside(inside(inside([graph], NODE), ATTRIBUTE), TENSOR),
  ]);
  return inside(tensors, EXTERNAL_DATA).length > 0;
}

/** Return the contents of a field of several messages. */
function inside(messages, wanted) {
  return messages.flatMap((message) =>
    Array.from(fields(message))
      .filter(([number]) => number === wanted)
      .map(([, content]) => content),
  );
}

/**
 * Return the metadata of an ONNX file. Of keys that occur twice, the last value counts.
 *
 * @param {Uint8Array} model The bytes of the file.
 * @returns {Map<string, string>}
 * @throws {ModelError} The file is damaged, or not an ONNX model.
 */
export function readMetadata(model) {
  const found = new Map();
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    for (const [number, entry] of fields(model)) {
      if (number !== METADATA_PROPS) continue;
      const pair = new Map(fields(entry));
      const [key, value] = [KEY, VALUE].map((one) => utf8.decode(pair.get(one) ?? new Uint8Array()));
      found.set(key, value);
    }
  } catch (error) {
    if (error instanceof RangeError) throw new ModelError(`not an ONNX model, or damaged: ${error.message}`);
    throw new ModelError("not an ONNX model, or damaged: a text in it is not UTF-8");
  }
  return found;
}
