/** Damaged files and models give an error of this package: no crash, no hang. */

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { deflateSync } from "node:zlib";

import { Classifier, ModelError, PictureError, readMetadata, readSpec, toPixels, verify } from "../edgecnn.js";
import { inflated } from "../lib/inflate.js";
import { probabilityText } from "../lib/rows.js";
import { loadNodeDecoders, loadRuntime } from "../node.js";
import { NEEDED, read, readJson } from "./fixtures.js";

before(loadNodeDecoders);

/** Decode a file; anything but pixels or a PictureError fails. Returns whether there are pixels. */
function isDecoded(data, spec, name) {
  try {
    const { height, width } = spec;
    assert.equal(toPixels(data, spec, { maxPixels: 1e6 }).length, height * width * 3, name);
    return true;
  } catch (error) {
    assert(error instanceof PictureError, `${name}: ${error.stack}`);
    assert(!error.message.includes("\n"), name);
    return false;
  }
}

test("files that are cut off at any length", NEEDED, () => {
  const { spec, files } = readJson("kinds.json");
  for (const { name, file } of files) {
    const data = read("kinds", file);
    for (let length = 0; length < data.length; length += Math.max(1, data.length >> 5)) {
      isDecoded(data.subarray(0, length), spec, `${name}, ${length} bytes`);
    }
  }
});

test("mutated files", NEEDED, () => {
  const { spec } = readJson("kinds.json");
  const files = readJson("mutated.json");
  const decoded = files.filter((base64, i) =>
    isDecoded(new Uint8Array(Buffer.from(base64, "base64")), spec, `mutated ${i}`),
  );
  assert(decoded.length > 20 && decoded.length < files.length);
});

test("a JPEG without its end is refused, one without its end marker is not", NEEDED, () => {
  const { spec, files } = readJson("kinds.json");
  for (const { name, file } of files.filter((one) => one.name.startsWith("JPEG"))) {
    const data = read("kinds", file);
    assert.throws(() => toPixels(data.subarray(0, data.length * 0.7), spec), PictureError, name);
    assert.deepEqual(toPixels(data.subarray(0, data.length - 2), spec), toPixels(data, spec), name);
  }
});

test("a TIFF file whose tags all claim the whole file", () => {
  const [entries, length] = [65_535, 2_000_000];
  const view = new DataView(new ArrayBuffer(length));
  view.setUint32(0, 0x49492a00);
  view.setUint32(4, 8, true);
  view.setUint16(8, entries, true);
  for (let i = 0, at = 10; i < entries; i++, at += 12) {
    view.setUint16(at, 256 + i, true);
    view.setUint16(at + 2, 1, true);
    view.setUint32(at + 4, length, true);
  }
  const spec = { height: 8, width: 8, colour: "rgb", resize: "squash", filter: "box" };
  assert.throws(() => toPixels(new Uint8Array(view.buffer), spec), /^PictureError: /);
});

test("data that decompress to much more than the pixels are left out", NEEDED, () => {
  const { data, ended } = inflated([deflateSync(new Uint8Array(1 << 26))], 1000);
  assert.equal(data.buffer.byteLength, 1000);
  assert.equal(ended, false);
});

test("what is no picture, empty, or too large", NEEDED, () => {
  const { spec } = readJson("kinds.json");
  const fails = (bytes, text) =>
    assert.throws(
      () => toPixels(Uint8Array.from(bytes), spec),
      (error) => error instanceof PictureError && text.test(error.message),
    );
  fails([], /^the file is empty$/);
  fails(Buffer.from("hello, this is text"), /^not a picture \(expected JPEG/);
  fails(Buffer.from("8BPS..."), /^PSD files are not supported/);
  const png = read("kinds", readJson("kinds.json").files.find(({ name }) => name === "PNG RGB").file);
  assert.throws(() => toPixels(png, spec, { maxPixels: 100 }), /pixels exceed the limit of 100$/);
  assert.throws(() => toPixels(png, spec, { maxBytes: 100 }), /^PictureError: the file has more than 100 bytes$/);
});

test("models that are damaged or not ours", NEEDED, async () => {
  const ort = await loadRuntime();
  const model = read("rgb", "model.onnx");
  const isModelError = (error) => error instanceof ModelError && !error.message.includes("\n");
  for (const bytes of [[], [255], [8], Array(64).fill(255), Buffer.from("not a model")]) {
    assert.throws(() => readSpec(Uint8Array.from(bytes)), isModelError);
  }
  assert.throws(() => readSpec(read("foreign.onnx")), /^ModelError: not a model that cnn-export wrote/);
  await assert.rejects(Classifier.open(read("one_at_a_time.onnx"), ort), /its batch size is fixed/);
  await assert.rejects(Classifier.open(read("outside.onnx"), ort), /^ModelError: the model refers to another file/);
  await assert.rejects(Classifier.open(model.subarray(0, 2000), ort), isModelError);
  for (let length = 0; length < model.length; length += 997) {
    try {
      readMetadata(model.subarray(0, length));
    } catch (error) {
      assert(isModelError(error), error.stack);
    }
  }
});

test("damaged pictures inside a model are named", NEEDED, async () => {
  const classifier = await Classifier.open(read("rgb", "model.onnx"), await loadRuntime());
  for (const [key, value] of [
    ["cnn.golden", "[{}]"],
    ["cnn.golden", "{"],
    ["cnn.conformance", "!"],
    ["cnn.conformance", "AAAA"],
  ]) {
    const damaged = Object.create(classifier, { metadata: { value: new Map([...classifier.metadata, [key, value]]) } });
    damaged.probabilities = classifier.probabilities.bind(classifier);
    await assert.rejects(verify(damaged), /^ModelError: the model's (golden pictures|conformance files) are damaged/);
  }
});

test("another probability of a golden picture is a difference of the graph", NEEDED, async () => {
  const classifier = await Classifier.open(read("rgb", "model.onnx"), await loadRuntime());
  const golden = JSON.parse(classifier.metadata.get("cnn.golden"));
  golden[1].probabilities[0] += 0.001;
  classifier.metadata.set("cnn.golden", JSON.stringify(golden));
  const { passed, deviations } = await verify(classifier);
  assert.equal(passed, false);
  assert.deepEqual(
    deviations.map(({ stage, picture }) => [stage, picture]),
    [["graph", "golden picture 1"]],
  );
});

test("numbers are written as Python writes them", () => {
  for (const [value, text] of [
    [1, "1.0"],
    [0, "0.0"],
    [1e-7, "0.0"],
    [1e-6, "1e-06"],
    [5.7e-5, "5.7e-05"],
    [0.0001, "0.0001"],
    [0.123456789, "0.123457"],
    [1 / 128, "0.007812"], // halfway: Python rounds to the even digit
    [3 / 128, "0.023438"],
    [0.5, "0.5"],
    [NaN, "nan"],
  ]) {
    assert.equal(probabilityText(value), text);
  }
});
