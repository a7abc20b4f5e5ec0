/** The pictures inside a model file: golden pictures and conformance files, with what they must give. */

import { lineOf, ModelError } from "./errors.js";
import { inflated } from "./inflate.js";

const GOLDEN_KEY = "cnn.golden";
const CONFORMANCE_KEY = "cnn.conformance";
const FORMAT = 1;
const MAX_BYTES = 16 << 20;

/** The stages whose pixels must be equal. */
export const PIXEL_STAGES = Object.freeze(["decode", "orientation", "colour", "resize"]);

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

/**
 * Return the golden pictures of a model; they have the model's size.
 *
 * @param {Map<string, string>} metadata
 * @returns {{png: Uint8Array, probabilities: number[]}[]}
 * @throws {ModelError} They are damaged.
 */
export function goldenPictures(metadata) {
  try {
    const entries = JSON.parse(metadata.get(GOLDEN_KEY) ?? "[]");
    return entries.map(({ png, probabilities }) => {
      if (!probabilities.every(Number.isFinite)) throw new Error("a probability is no number");
      return { png: bytesOf(png), probabilities };
    });
  } catch (error) {
    throw new ModelError(`the model's golden pictures are damaged: ${lineOf(error)}`);
  }
}

/**
 * Return the conformance files of a model, with what is recorded of each after each stage.
 *
 * @param {Map<string, string>} metadata
 * @returns {{name: string, data: Uint8Array, stages: Record<string, any>, probabilities: [number, number][]}[]}
 *   Empty if the model has none.
 * @throws {ModelError} They are damaged, or of another version.
 */
export function conformanceFiles(metadata) {
  const text = metadata.get(CONFORMANCE_KEY);
  if (text === undefined) return [];
  let document;
  try {
    const { data, ended } = inflated([bytesOf(text)], MAX_BYTES);
    if (!ended) throw new Error("cut off, or too large");
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
    if (document.format === FORMAT) {
      return document.files.map(({ name, data: file, stages, probabilities }) => ({
        name: String(name),
        data: bytesOf(file),
        stages: unpacked(stages),
        probabilities: Object.entries(probabilities).map(([index, value]) => [Number(index), Number(value)]),
      }));
    }
  } catch (error) {
    throw new ModelError(`the model's conformance files are damaged: ${lineOf(error)}`);
  }
  throw new ModelError(`the model's conformance files have format ${document.format}; this version reads ${FORMAT}`);
}

/** A stage that changes nothing is left out: it has the record of the stage before. */
function unpacked(packed) {
  const found = {};
  let before;
  for (const stage of PIXEL_STAGES) {
    if (stage in packed || before === undefined) {
      const { mode, size, sha256, sample } = packed[stage];
      before = {
        mode: String(mode),
        width: Number(size[0]),
        height: Number(size[1]),
        sha256: String(sha256),
        sample: bytesOf(sample),
      };
    }
    found[stage] = before;
  }
  return found;
}
