/**
 * Compare JPEG decoders from npm with the one of this reader: pixels at full size, and the class that follows.
 *
 *     npm install --prefix FOLDER --ignore-scripts @jsquash/jpeg jpeg-js sharp @cornerstonejs/codec-libjpeg-turbo-8bit
 *     node readers/js/bench/decoders.js FOLDER MODEL.onnx PICTURES...
 *
 * Prints a line of JSON for each decoder: pictures, those with equal pixels, the share of equal samples, the largest
 * difference, and pictures whose most probable class is another one than with the contract's decoding.
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

import { Classifier } from "../edgecnn.js";
import { upright } from "../lib/exif.js";
import { findPictures } from "../lib/find.js";
import { fitted } from "../lib/fit.js";
import { decodeJpeg } from "../lib/jpeg.js";
import { inColour } from "../lib/picture.js";
import { loadNodeDecoders, loadRuntime } from "../node.js";

const [folder, modelFile, ...paths] = process.argv.slice(2);
const require = createRequire(join(resolve(folder), "package.json"));

/** Each decodes a JPEG file to RGB samples at full size, as stored; undefined for a file that it refuses. */
async function decoders() {
  const { default: jsquash, init } = await import(require.resolve("@jsquash/jpeg/decode.js"));
  await init(await WebAssembly.compile(readFileSync(require.resolve("@jsquash/jpeg/codec/dec/mozjpeg_dec.wasm"))));
  globalThis.ImageData ??= class {
    constructor(data, width, height) {
      Object.assign(this, { data, width, height });
    }
  };
  const jpegJs = require("jpeg-js");
  const sharp = require("sharp");
  const cornerstone = await require("@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs")();
  return {
    "@jsquash/jpeg 1.6 (mozjpeg)": async (data) =>
      rgbOf((await jsquash(data.buffer.slice(data.byteOffset, data.byteOffset + data.length))).data, 4),
    "jpeg-js 0.4": async (data) =>
      rgbOf(jpegJs.decode(data, { useTArray: true, formatAsRGBA: false, maxMemoryUsageInMB: 4096 }).data, 3),
    "sharp 0.35 (libvips)": async (data) =>
      rgbOf(await sharp(data).toColourspace("srgb").removeAlpha().raw().toBuffer(), 3),
    "codec-libjpeg-turbo-8bit 1.2": async (data) => {
      const decoder = new cornerstone.JPEGDecoder();
      decoder.getEncodedBuffer(data.length).set(data);
      decoder.decode();
      const { componentCount } = decoder.getFrameInfo();
      const pixels = new Uint8Array(decoder.getDecodedBuffer());
      decoder.delete();
      return rgbOf(pixels, componentCount);
    },
  };
}

function rgbOf(pixels, channels) {
  if (channels === 3) return pixels;
  const rgb = new Uint8Array((3 * pixels.length) / channels);
  for (let i = 0; i < rgb.length; i++)
    rgb[i] = pixels[channels === 1 ? Math.floor(i / 3) : Math.floor(i / 3) * 4 + (i % 3)];
  return rgb;
}

const WHOLE = { resize: "squash", width: 1e9, height: 1e9 }; // for a model of this size nothing is scaled down

await loadNodeDecoders();
const classifier = await Classifier.open(new Uint8Array(readFileSync(modelFile)), await loadRuntime());
const { spec } = classifier;
const best = async (pixels) => classifier.toPrediction((await classifier.probabilities([pixels]))[0]).index;
const candidates = Object.entries(await decoders());
const counts = candidates.map(([decoder]) => ({
  decoder,
  pictures: 0,
  refused: 0,
  equal: 0,
  samples: 0,
  equal_samples: 0,
  largest: 0,
  other_class: 0,
}));
for (const path of findPictures(paths)) {
  const data = readFileSync(path);
  const { picture, orientation } = decodeJpeg(data, () => {}, WHOLE);
  const { data: reference, width, height } = inColour(picture, "rgb");
  const wanted = await best(classifier.pixels(data));
  for (const [i, [, decode]] of candidates.entries()) {
    const count = counts[i];
    count.pictures += 1;
    let found;
    try {
      found = await decode(data);
    } catch {
      count.refused += 1;
      continue;
    }
    let same = 0;
    for (let at = 0; at < reference.length; at++) {
      const apart = Math.abs(reference[at] - found[at]);
      if (apart === 0) same += 1;
      else count.largest = Math.max(count.largest, apart);
    }
    count.samples += reference.length;
    count.equal_samples += same;
    count.equal += same === reference.length;
    const turned = upright({ mode: "RGB", width, height, data: found }, orientation);
    count.other_class += (await best(fitted(inColour(turned, spec.colour), spec))) !== wanted;
  }
}
for (const { samples, equal_samples, ...count } of counts) {
  console.log(JSON.stringify({ ...count, equal_share: equal_samples / samples }));
}
