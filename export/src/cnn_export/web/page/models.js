/** The models of the page: fetched, opened, verified and timed on this device. */

import * as ort from "./vendor/ort.wasm.min.mjs";
import { Classifier, loadDecoders, verify } from "./reader/edgecnn.js";

const ROUNDS = 12; // the first one warms up
const RUNS = 8; // in a round: the clock of a browser has steps of 0.1 ms
const REPLAYED = ["cnn.golden", "cnn.conformance"];
const NOT_REPLAYED = { passed: true, stages: [], deviations: [] };
const here = (name) => new URL(name, import.meta.url).href;

async function bytesOf(name) {
  const answer = await fetch(here(name), { cache: "no-cache" }); // asks whether there is a new export
  if (!answer.ok) throw new Error(`${name} cannot be fetched (${answer.status}): serve the folder as a whole`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** Prepare ONNX Runtime and the decoders of pictures. Threads need a page that is isolated by its headers. */
export async function prepare() {
  ort.env.wasm.wasmPaths = {
    mjs: here("vendor/ort-wasm-simd-threaded.mjs"),
    wasm: here("vendor/ort-wasm-simd-threaded.wasm"),
  };
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  const [jpeg, webp] = await Promise.all(["vendor/jpeg-turbo.wasm", "vendor/webp.wasm"].map(bytesOf));
  await loadDecoders({ jpeg, webp });
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

/** Return the median milliseconds of the models' runs on one picture, in turns of some runs each. */
async function timesOf(models) {
  const times = models.map(() => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, { classifier }] of models.entries()) {
      const { height, width, colour } = classifier.spec;
      const picture = new Uint8Array(height * width * (colour === "grey" ? 1 : 3)).fill(97 + round);
      const start = performance.now();
      for (let run = 0; run < RUNS; run++) await classifier.probabilities([picture]);
      if (round > 0) times[index].push((performance.now() - start) / RUNS);
    }
  }
  return times.map(median);
}

/**
 * Open, verify and time the models, and put the one to use first: the fastest one of those that give the answers of the
 * export on this device.
 *
 * @param {string[]} files The model files, below the page. One that was exported without pictures is not verified.
 * @returns {Promise<{file: string, bytes: number, classifier: Classifier, verification: object, ms: number}[]>}
 */
export async function openModels(files) {
  const models = [];
  for (const file of files) {
    const bytes = await bytesOf(file);
    const session = { executionProviders: ["wasm"], intraOpNumThreads: ort.env.wasm.numThreads };
    try {
      const classifier = await Classifier.open(bytes, ort, { session });
      const carriesPictures = REPLAYED.some((key) => (classifier.metadata.get(key) ?? "[]") !== "[]");
      const verification = carriesPictures ? await verify(classifier) : NOT_REPLAYED;
      models.push({ file, bytes: bytes.length, classifier, verification });
    } catch (error) {
      throw new Error(`${file}: ${error.message}`);
    }
  }
  const times = await timesOf(models);
  models.forEach((model, index) => (model.ms = times[index]));
  return models.toSorted((a, b) => b.verification.passed - a.verification.passed || a.ms - b.ms);
}
