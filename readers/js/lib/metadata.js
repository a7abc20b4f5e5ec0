/**
 * The metadata of an ONNX file. ONNX Runtime for JavaScript does not give it, so this walks over the file: a
 * `ModelProto` of Protocol Buffers, whose field 14 holds pairs of key (1) and value (2), both UTF-8.
 */

import { ModelError } from "./errors.js";
import { BYTES, fields } from "./protobuf.js";

const GRAPH = 7; // fields of messages in onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto
const INITIALIZER = 5;
const NODE = 1;
const ATTRIBUTE = 5;
const TENSOR = 5;
const EXTERNAL_DATA = 13;
const METADATA_PROPS = 14;
const KEY = 1;
const VALUE = 2;

/** Yield number and content of each field of a message that holds bytes. */
function* parts(message) {
  for (const { number, kind, content } of fields(message)) if (kind === BYTES) yield [number, content];
}

const damaged = (what) => new ModelError(`not an ONNX model, or damaged: ${what}`);

/**
 * Whether weights lie in another file: a model from elsewhere must not choose which file is read.
 *
 * @param {Uint8Array} model The bytes of an ONNX file.
 * @throws {ModelError} The file is damaged.
 */
export function refersToFiles(model) {
  try {
    return inside(tensorsOf(model), EXTERNAL_DATA).length > 0;
  } catch (error) {
    throw error instanceof RangeError ? damaged(error.message) : error;
  }
}

function tensorsOf(model) {
  return inside([model], GRAPH).flatMap((graph) => [
    ...inside([graph], INITIALIZER),
    ...inside(inside(inside([graph], NODE), ATTRIBUTE), TENSOR),
  ]);
}

/** Return the contents of a field of several messages. */
function inside(messages, wanted) {
  return messages.flatMap((message) =>
    Array.from(parts(message))
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
    for (const [number, entry] of parts(model)) {
      if (number !== METADATA_PROPS) continue;
      const pair = new Map(parts(entry));
      const [key, value] = [KEY, VALUE].map((one) => utf8.decode(pair.get(one) ?? new Uint8Array()));
      found.set(key, value);
    }
  } catch (error) {
    throw damaged(error instanceof RangeError ? error.message : "a text in it is not UTF-8");
  }
  return found;
}
