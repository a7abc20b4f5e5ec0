/** Every stage gives the pixels that Python gives: on the vectors of two models, and on files of every kind. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { before, test } from "node:test";

import { Classifier, PictureError, stagesOf, toPixels, verify } from "../edgecnn.js";
import { fitted, jpegDivisor } from "../lib/fit.js";
import { loadNodeDecoders, loadRuntime } from "../node.js";
import { NEEDED, read, readJson } from "./fixtures.js";

const STAGES = ["decode", "orientation", "colour", "resize"];

before(loadNodeDecoders);

function digest({ mode, width, height, data }) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength); // 16 bits: the lower byte first
  return { mode, width, height, sha256: createHash("sha256").update(bytes).digest("hex") };
}

const recorded = ({ mode, width, height, sha256 }) => ({ mode, width, height, sha256 });

for (const model of ["rgb", "grey"]) {
  test(`files of the vectors: ${model}`, NEEDED, async () => {
    const index = readJson(model, "vectors", "index.json");
    const spec = { details: {}, ...index.spec };
    const classifier = await Classifier.open(read(model, "model.onnx"), await loadRuntime(), { top: 20 });
    assert(index.files.length >= 19);
    for (const { name, file, stages, outputs } of index.files) {
      const data = read(model, "vectors", file);
      const found = stagesOf(data, spec);
      for (const stage of STAGES) assert.deepEqual(digest(found[stage]), recorded(stages[stage]), `${name}: ${stage}`);
      const { top } = await classifier.predict(data);
      const { probabilities } = outputs["model.onnx"];
      top.forEach(({ probability }, i) => assert(Math.abs(probability - probabilities[i]) < 1e-5, `${name}: outputs`));
    }
  });

  test(`resizes and divisors of the vectors: ${model}`, NEEDED, () => {
    const { resizes, jpeg_divisors: divisors, spec } = readJson(model, "vectors", "index.json");
    assert(resizes.length > 100 && divisors.length > 10);
    let compared = 0;
    for (const { source, resize, filter, target } of resizes) {
      if (source.raw === null) continue;
      const own = { ...spec, ...{ resize, filter, width: target.width, height: target.height } };
      own.colour = source.channels === 1 ? "grey" : "rgb";
      const data = fitted({ ...source, data: read(model, "vectors", source.raw) }, own);
      assert.equal(digest({ ...target, data }).sha256, target.sha256, `${resize} ${filter} ${source.width}`);
      compared += 1;
    }
    assert(compared > 100);
    for (const { width, height, resize, target, divisor } of divisors) {
      assert.equal(jpegDivisor(width, height, { ...spec, resize, ...target }), divisor, `${width} x ${height}`);
    }
  });

  test(`the model verifies itself: ${model}`, NEEDED, async () => {
    const found = await verify(await Classifier.open(read(model, "model.onnx"), await loadRuntime()));
    assert.deepEqual(found.deviations, []);
    assert(found.passed);
    assert.deepEqual(
      found.stages.map(({ stage }) => stage),
      [...STAGES, "graph", "probabilities"],
    );
    assert(found.stages.every(({ compared, agreed }) => compared > 0 && compared === agreed));
  });
}

test("random resizes: five filters, three modes", NEEDED, () => {
  const samples = read("resizes.raw");
  const cases = readJson("resizes.json");
  for (const { at, width, height, spec, sha256 } of cases) {
    const channels = spec.colour === "grey" ? 1 : 3;
    const data = fitted({ width, height, data: samples.subarray(at, at + width * height * channels) }, spec);
    const found = createHash("sha256").update(data).digest("hex");
    assert.equal(
      found,
      sha256,
      `${width} x ${height} -> ${spec.width} x ${spec.height}, ${spec.resize} ${spec.filter}`,
    );
  }
  assert.equal(new Set(cases.map(({ spec }) => `${spec.filter} ${spec.resize}`)).size, 15);
});

test("files of every kind", NEEDED, () => {
  const { spec, files } = readJson("kinds.json");
  for (const { name, file, stages } of files) {
    const found = stagesOf(read("kinds", file), spec);
    for (const stage of STAGES) assert.deepEqual(digest(found[stage]), recorded(stages[stage]), `${name}: ${stage}`);
  }
});

test("kinds that only cnn-infer decodes are refused by name", NEEDED, () => {
  const { spec, refused } = readJson("kinds.json");
  for (const { name, file } of refused) {
    assert.throws(
      () => toPixels(read("kinds", file), spec),
      (error) => error instanceof PictureError && /^this reader does not decode/.test(error.message),
      name,
    );
  }
});
