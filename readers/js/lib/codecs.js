/** Decoders in WebAssembly: JPEG and WebP. A damaged file can harm only the memory of its instance. */

import { PictureError } from "./errors.js";

const MOST_MEMORY = 1 << 28; // an instance that has grown larger is not used again
const modules = new Map();
const idle = new Map();

/**
 * Compile the decoders. Must be called once before a JPEG or WebP file is decoded.
 *
 * @param {Record<"jpeg" | "webp", BufferSource>} sources The bytes of `jpeg-turbo.wasm` of @cwasm/jpeg-turbo and of
 *   `webp.wasm` of @cwasm/webp. One that is left out is not loaded: files of its kind are refused.
 */
export async function loadDecoders(sources) {
  await Promise.all(
    Object.entries(sources).map(async ([name, bytes]) => modules.set(name, await WebAssembly.compile(bytes))),
  );
}

class LongJump extends Error {}

function started(name) {
  const module = modules.get(name);
  if (module === undefined) throw new PictureError(`${name} files need loadDecoders({ ${name}: ... }) first`);
  const stop = () => {
    throw new LongJump();
  };
  const imports = {};
  for (const { module: space, name: key } of WebAssembly.Module.imports(module)) {
    // the libraries jump back to the first call at an error; environ_sizes_get reports an empty environment
    (imports[space] ??= {})[key] = key === "setjmp" || key === "environ_sizes_get" ? () => 0 : stop;
  }
  return new WebAssembly.Instance(module, imports).exports;
}

/**
 * Call a function with an instance of a decoder. The instance is used again unless it stopped at an error.
 *
 * @template T
 * @param {"jpeg" | "webp"} name
 * @param {(exports: any) => T} use
 * @returns {T}
 * @throws {PictureError} The decoder stopped, or ran out of memory.
 */
export function withDecoder(name, use) {
  const exports = idle.get(name) ?? started(name);
  idle.delete(name);
  let result;
  try {
    result = use(exports);
  } catch (error) {
    if (error instanceof LongJump || error instanceof WebAssembly.RuntimeError) {
      throw new PictureError("damaged or unsupported picture");
    }
    throw error;
  }
  if (exports.memory.buffer.byteLength <= MOST_MEMORY) idle.set(name, exports);
  return result;
}

/**
 * Reserve memory of an instance, and free it after a call.
 *
 * @template T
 * @param {any} exports
 * @param {number} size In bytes.
 * @param {(pointer: number) => T} use
 * @returns {T}
 * @throws {PictureError} There is not enough memory.
 */
export function withMemory(exports, size, use) {
  const pointer = exports.malloc(size);
  if (pointer === 0) throw new PictureError("not enough memory to decode it");
  try {
    return use(pointer);
  } finally {
    exports.free(pointer);
  }
}
