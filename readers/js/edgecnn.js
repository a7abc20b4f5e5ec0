/**
 * Classify pictures with models of cnn-export, to the same pixels as cnn-infer: in a browser, in Node, or wherever
 * ONNX Runtime for JavaScript runs. Plain ES modules; they import `pako` and `@noble/hashes`.
 */

export { Classifier } from "./lib/classifier.js";
export { loadDecoders } from "./lib/codecs.js";
export { stagesOf, toPixels } from "./lib/decode.js";
export { InputError, ModelError, PictureError } from "./lib/errors.js";
export { readMetadata } from "./lib/metadata.js";
export { resample } from "./lib/resample.js";
export { readSpec } from "./lib/spec.js";
export { verify } from "./lib/verify.js";
