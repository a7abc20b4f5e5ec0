/** The specification of a model: how a picture becomes its input, and what its outputs mean. */

import { lineOf, ModelError } from "./errors.js";
import { readMetadata } from "./metadata.js";
import { FILTERS } from "./resample.js";

const KEY = "cnn.spec";
const FORMAT = 1;
const MAX_SIDE = 4096;
const MAX_CLASSES = 100_000;
const CHOICES = {
  colour: ["grey", "rgb"],
  resize: ["squash", "crop", "pad"],
  filter: Object.keys(FILTERS),
  profiles: ["ignored"],
};

const isWhole = (value, low, high) => Number.isInteger(value) && value >= low && value <= high;
const isPositive = (value) => typeof value === "number" && value > 0 && Number.isFinite(value);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const shown = (value) => JSON.stringify(value)?.slice(0, 40);

/** Return what is wrong with the first invalid value, or undefined. */
function problem(spec) {
  const names = spec.classes;
  if (!Array.isArray(names) || !isWhole(names.length, 2, MAX_CLASSES)) return "classes must be a list of names";
  if (!names.every((name) => typeof name === "string" && name) || new Set(names).size !== names.length) {
    return "classes must be different, non-empty strings";
  }
  for (const key of ["height", "width"]) {
    if (!isWhole(spec[key], 1, MAX_SIDE)) return `${key} must be a whole number from 1 to ${MAX_SIDE}`;
  }
  if (!isWhole(spec.zero_point, 0, 255)) return "zero_point must be a whole number from 0 to 255";
  for (const key of ["scale", "temperature"]) {
    if (!isPositive(spec[key])) return `${key} must be a positive number, not ${shown(spec[key])}`;
  }
  for (const [key, allowed] of Object.entries(CHOICES)) {
    if (!allowed.includes(spec[key])) return `${key} must be one of ${allowed.join(", ")}, not ${shown(spec[key])}`;
  }
  return isObject(spec.details) ? undefined : "details must be a JSON object";
}

/**
 * Parse the JSON document under `cnn.spec`. Keys that this version does not know are ignored.
 *
 * @param {string} text
 * @returns {import("../edgecnn.js").Spec}
 * @throws {ModelError} It is not JSON, has another format version, lacks a key, or has a wrong value.
 */
export function parseSpec(text) {
  let document;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new ModelError(`the model's ${KEY} is not JSON: ${lineOf(error)}`);
  }
  if (!isObject(document)) throw new ModelError(`the model's ${KEY} is not a JSON object`);
  if (document.format !== FORMAT) {
    throw new ModelError(`the model's ${KEY} has format ${shown(document.format)}; this version reads ${FORMAT}`);
  }
  const { classes, height, width, colour, resize, filter, zero_point, scale } = document;
  const { temperature = 1, profiles = "ignored", details = {} } = document;
  const spec = { classes, height, width, colour, resize, filter, zero_point, scale, temperature, profiles, details };
  const wrong = problem(spec);
  if (wrong !== undefined) throw new ModelError(`the model's ${KEY} is not valid: ${wrong}`);
  return Object.freeze(spec);
}

/**
 * Return the specification of a model.
 *
 * @param {Uint8Array} model The bytes of an `.onnx` file.
 * @returns {import("../edgecnn.js").Spec}
 * @throws {ModelError} The file is damaged, or was not written by cnn-export.
 */
export function readSpec(model) {
  const text = readMetadata(model).get(KEY);
  if (text === undefined) throw new ModelError(`not a model that cnn-export wrote (no ${KEY} in its metadata)`);
  return parseSpec(text);
}
