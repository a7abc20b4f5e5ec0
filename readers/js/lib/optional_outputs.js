/**
 * The file of a model without its optional outputs. ONNX Runtime computes all outputs of a graph in every run, also
 * those that are not asked for. The nodes, constants and tensors of an output `NAME` are named `NAME/...`, and no other
 * node reads them, so they are taken out of the file before ONNX Runtime gets it.
 */

import { joined } from "./bytes.js";
import { fields, toVarint } from "./protobuf.js";

const OPTIONAL_OUTPUTS = ["evidence", "strangeness"];
const GRAPH = 7; // fields of messages in onnx.proto: ModelProto, GraphProto
const NODE = 1;
const CONSTANT = 5;
const OUTPUT = 12;
/** For each kind of part of a graph, the number of the field with its name. */
const NAME_FIELD = { [NODE]: 3, [CONSTANT]: 8, [OUTPUT]: 1 };

/** Return the name of a part of a graph; empty if parts of this kind are not dropped. */
function nameOf(part, content) {
  if (!(part in NAME_FIELD)) return "";
  for (const field of fields(content)) {
    if (field.number === NAME_FIELD[part]) return new TextDecoder("latin1").decode(field.content);
  }
  return "";
}

/** Return the optional outputs of a model file. */
function outputsOf(model) {
  const names = [];
  for (const { number, content: graph } of fields(model)) {
    if (number !== GRAPH) continue;
    for (const { number: part, content } of fields(graph)) if (part === OUTPUT) names.push(nameOf(part, content));
  }
  return OPTIONAL_OUTPUTS.filter((name) => names.includes(name));
}

function without(model, outputs) {
  const isDropped = ({ number: part, content }) => {
    const name = nameOf(part, content);
    return outputs.some((output) => name.startsWith(`${output}/`) || (part === OUTPUT && name === output));
  };
  let kept = [];
  for (const { number, kind, whole, content } of fields(model)) {
    if (number !== GRAPH) {
      kept.push(whole);
      continue;
    }
    const graph = Array.from(fields(content))
      .filter((part) => !isDropped(part))
      .map((part) => part.whole);
    const length = graph.reduce((sum, part) => sum + part.length, 0);
    kept = kept.concat([toVarint(number * 8 + kind), toVarint(length)], graph);
  }
  return joined(kept);
}

/**
 * Return a model file without its optional outputs: the same bytes as those that cnn-infer opens.
 *
 * @param {Uint8Array} model The bytes of the file.
 * @returns {Uint8Array} The file as it is if it has none, or if it is damaged: ONNX Runtime then tells what is wrong.
 */
export function withoutOptionalOutputs(model) {
  try {
    const outputs = outputsOf(model);
    return outputs.length ? without(model, outputs) : model;
  } catch (error) {
    if (error instanceof RangeError) return model;
    throw error;
  }
}
