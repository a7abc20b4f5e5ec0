/** Optional outputs are taken out of a model before it is opened. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Classifier, ModelError } from "../edgecnn.js";
import { withoutOptionalOutputs } from "../lib/optional_outputs.js";
import { loadRuntime } from "../node.js";
import { NEEDED, read } from "./fixtures.js";

test("a model is opened without its optional outputs, from the bytes that cnn-infer opens", NEEDED, async () => {
  const [model, selected, plain] = ["optional.onnx", "selected.onnx", "rgb/model.onnx"].map((name) => read(name));
  assert.deepEqual(withoutOptionalOutputs(model), selected);
  assert.equal(withoutOptionalOutputs(plain), plain);
  const ort = await loadRuntime();
  let opened;
  const create = (bytes, options) => ort.InferenceSession.create((opened = bytes), options);
  const classifier = await Classifier.open(model, { ...ort, InferenceSession: { create } });
  assert.deepEqual(opened, selected);
  const picture = Uint8Array.from({ length: 8 * 8 * 3 }, (_, i) => i);
  const [found] = await classifier.probabilities([picture]);
  const [wanted] = await (await Classifier.open(plain, ort)).probabilities([picture]);
  assert.deepEqual(found, wanted);
});

test("a model with a damaged graph is refused, not searched", NEEDED, async () => {
  const ort = await loadRuntime();
  const model = read("optional.onnx");
  for (let at = 0; at < model.length; at += 211) {
    const damaged = Uint8Array.from(model).fill(0xff, at, at + 12);
    withoutOptionalOutputs(damaged);
    await Classifier.open(damaged, ort).then(
      (classifier) => classifier.release(),
      (error) => assert(error instanceof ModelError, error.stack),
    );
  }
});
