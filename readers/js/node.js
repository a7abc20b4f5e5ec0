/** The parts of the reader that need Node: its decoders from the installed packages, and its runtime. */

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

import { loadDecoders } from "./lib/codecs.js";

const require = createRequire(import.meta.url);

/** Load the decoders of JPEG and WebP from the installed packages. */
export async function loadNodeDecoders() {
  const read = (path) => readFile(require.resolve(path));
  const jpeg = await read("@cwasm/jpeg-turbo/jpeg-turbo.wasm");
  await loadDecoders({ jpeg, webp: await read("@cwasm/webp/webp.wasm") });
}

/**
 * Return ONNX Runtime.
 *
 * @param {"node" | "web"} [kind] `node`: native code; `web`: WebAssembly, if the package onnxruntime-web is installed.
 */
export async function loadRuntime(kind = "node") {
  const found = await import(`onnxruntime-${kind}`);
  return found.default ?? found;
}
