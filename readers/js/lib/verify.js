/** The replay of a model's own pictures on this machine, stage by stage, as `cnn-infer --verify` does it. */

import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

import { conformanceFiles, goldenPictures, PIXEL_STAGES } from "./conformance.js";
import { stagesOf } from "./decode.js";
import { lineOf, ModelError, PictureError } from "./errors.js";
import { decodePng } from "./png.js";

const GRID = 5; // a sample has at most this many rows and columns
const TOLERANCE = { fp32: 1e-4, fp16: 0.02, int8: 0.02 };

/** All stages, in order. `graph` is replayed on the golden pictures, the others on the conformance files. */
export const STAGES = Object.freeze([...PIXEL_STAGES, "graph", "probabilities"]);

/**
 * Return the largest accepted difference of a probability. Integers that are proven to be the same on every processor
 * have the tolerance of fp32.
 *
 * @param {import("../edgecnn.js").Spec} spec
 */
export function toleranceOf(spec) {
  const { precision } = spec.details;
  if (precision !== "int8") return precision === "fp16" ? TOLERANCE.fp16 : TOLERANCE.fp32;
  const integers = spec.details.parity?.fp32_against_int8?.integers;
  const isExact = integers?.proven === true && (integers.floats ?? []).length === 0;
  return isExact ? TOLERANCE.fp32 : TOLERANCE.int8;
}

/** Return what is recorded of a picture: mode, size, SHA-256 and a sample. */
function recordOf({ mode, width, height, data }) {
  const channels = data.length / (width * height);
  const places = (side) => {
    const count = Math.min(GRID, side);
    return Array.from({ length: count }, (_, i) => Math.floor(((2 * i + 1) * side) / (2 * count)));
  };
  const isWide = data.BYTES_PER_ELEMENT > 1;
  const sample = places(height).flatMap((y) =>
    places(width).flatMap((x) => {
      const at = (y * width + x) * channels;
      return Array.from(data.subarray(at, at + channels), (value) => (isWide ? value >> 8 : value));
    }),
  );
  const bytes = isWide ? Uint8Array.from({ length: 2 * data.length }, (_, i) => data[i >> 1] >> (8 * (i & 1))) : data;
  return { mode, width, height, sha256: bytesToHex(sha256(bytes)), sample };
}

const isSame = (a, b) => a.mode === b.mode && a.width === b.width && a.height === b.height && a.sha256 === b.sha256;

/** Versions of a decoder may give the same colours in another mode: then the colours are compared. */
function stageAgrees(stage, wanted, found) {
  const isEarly = stage === "decode" || stage === "orientation";
  const key = isEarly && wanted[stage].mode !== found[stage].mode ? "colour" : stage;
  return isSame(wanted[key], found[key]);
}

function distance(wanted, found) {
  const none = { largest: null, mean: null };
  if (wanted.mode !== found.mode) return { ...none, reason: `colour mode ${found.mode}, at export ${wanted.mode}` };
  if (wanted.width !== found.width || wanted.height !== found.height) {
    const size = ({ width, height }) => `${width} x ${height}`;
    return { ...none, reason: `${size(found)} pixels, at export ${size(wanted)}` };
  }
  if (wanted.sample.length !== found.sample.length) return { ...none, reason: "pixels differ" };
  const apart = found.sample.map((value, i) => Math.abs(value - wanted.sample[i]));
  const [largest, mean] = [Math.max(...apart), apart.reduce((a, b) => a + b, 0) / apart.length];
  if (largest === 0) return { largest, mean, reason: "pixels differ, but none of the sampled ones" };
  const reason = `sampled pixels differ by up to ${largest} of 255, ${mean.toFixed(1)} on average`;
  return { largest, mean, reason };
}

async function replayFile(classifier, file, tolerance) {
  const { name: picture } = file;
  let stages;
  try {
    stages = stagesOf(file.data, classifier.spec);
  } catch (error) {
    if (!(error instanceof PictureError)) throw error;
    const reason = `cannot be decoded here: ${error.message}`;
    return { deviation: { picture, stage: "decode", largest: null, mean: null, effect: null, reason }, gap: null };
  }
  const [row] = await classifier.probabilities([stages.resize.data]);
  const gaps = file.probabilities.map(([index, value]) => {
    if (!(index in row)) throw new ModelError(`the model's conformance files are damaged: ${picture}: class ${index}`);
    return Math.abs(row[index] - value);
  });
  const gap = gaps.length ? Math.max(...gaps) : null;
  const records = Object.fromEntries(PIXEL_STAGES.map((stage) => [stage, recordOf(stages[stage])]));
  const stage = PIXEL_STAGES.find((one) => !stageAgrees(one, file.stages, records));
  if (stage !== undefined) {
    return { deviation: { picture, stage, effect: gap, ...distance(file.stages[stage], records[stage]) }, gap };
  }
  if (gap === null || gap <= tolerance) return { gap };
  const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
  const reason = `a probability differs by ${gap.toPrecision(2)}`;
  return { deviation: { picture, stage: "probabilities", largest: gap, mean, effect: null, reason }, gap };
}

async function replayGolden(classifier, { png, probabilities }, number, tolerance) {
  const { spec } = classifier;
  let row;
  try {
    if (probabilities.length !== spec.classes.length) throw new Error(`${probabilities.length} probabilities`);
    [row] = await classifier.probabilities([decodePng(png, () => {}).picture.data]);
  } catch (error) {
    if (error instanceof ModelError) throw error;
    throw new ModelError(`the model's golden pictures are damaged: ${lineOf(error)}`);
  }
  const gaps = probabilities.map((value, i) => Math.abs(row[i] - Math.fround(value)));
  const gap = Math.max(...gaps);
  const best = (values) => values.indexOf(Math.max(...values));
  const [want, have] = [best(probabilities), best(Array.from(row))];
  if (gap <= tolerance && (want === have || tolerance < 0.01)) return { gap };
  const classes = `${spec.classes[want]} -> ${spec.classes[have]}`;
  const reason = `${classes}, a probability differs by ${gap.toPrecision(2)}`;
  const picture = `golden picture ${number}`;
  return { deviation: { picture, stage: "graph", largest: gap, mean: null, effect: null, reason }, gap };
}

const worstOf = (replays) => {
  const gaps = replays.map(({ gap }) => gap).filter((gap) => gap !== null);
  return gaps.length ? Math.max(...gaps) : null;
};

/**
 * Replay golden pictures and conformance files. A file counts only in its first stage that differs.
 *
 * @param {import("./classifier.js").Classifier} classifier
 * @returns {Promise<import("../edgecnn.js").Verification>}
 * @throws {ModelError} The model has nothing to replay, or it is damaged.
 */
export async function verify(classifier) {
  const tolerance = toleranceOf(classifier.spec);
  const files = conformanceFiles(classifier.metadata);
  const golden = goldenPictures(classifier.metadata);
  if (!files.length && !golden.length) throw new ModelError("the model carries no pictures to verify: export it again");
  const replays = [];
  for (const file of files) replays.push(await replayFile(classifier, file, tolerance));
  const graph = [];
  for (const [number, one] of golden.entries()) graph.push(await replayGolden(classifier, one, number, tolerance));
  const stages = [];
  let left = replays;
  for (const stage of files.length ? PIXEL_STAGES : []) {
    const agreeing = left.filter(({ deviation }) => deviation?.stage !== stage);
    stages.push({ stage, compared: left.length, agreed: agreeing.length, worst: null });
    left = agreeing;
  }
  const add = (stage, compared) => {
    const agreed = compared.filter(({ deviation }) => deviation === undefined).length;
    stages.push({ stage, compared: compared.length, agreed, worst: worstOf(compared) });
  };
  if (golden.length) add("graph", graph);
  if (files.length) add("probabilities", left);
  const order = ({ stage }) => STAGES.indexOf(stage);
  const found = [...replays, ...graph].flatMap(({ deviation }) => deviation ?? []);
  const deviations = found.sort((a, b) => order(a) - order(b));
  return { passed: !deviations.length, tolerance, stages, deviations };
}
