/** WebP files, decoded by libwebp. Animations are not decoded. */

import { withDecoder, withMemory } from "./codecs.js";
import { PictureError } from "./errors.js";
import { orientationOf } from "./exif.js";

const ANIMATION = 0x02; // flags of the chunk VP8X
const ALPHA = 0x10;

/** Return the chunks by kind; of a kind that occurs twice, the first. */
function chunksOf(data) {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const found = new Map();
  let at = 12;
  while (at + 8 <= data.length) {
    const kind = String.fromCharCode(...data.subarray(at, at + 4));
    const length = view.getUint32(at + 4, true);
    if (!found.has(kind)) found.set(kind, data.subarray(at + 8, at + 8 + length));
    at += 8 + length + (length % 2);
  }
  return found;
}

/** Whether the picture has an alpha channel, by its header. */
function hasAlpha(chunks) {
  if (chunks.has("VP8X")) return (chunks.get("VP8X")[0] & ALPHA) !== 0;
  return chunks.has("VP8L") && (chunks.get("VP8L")[4] & 0x10) !== 0;
}

/**
 * Decode a WebP file.
 *
 * @param {Uint8Array} data The bytes of the file.
 * @param {(width: number, height: number) => void} checkSize Called before the pixels are decoded.
 * @returns {{picture: import("./picture.js").Picture, orientation: number}}
 * @throws {PictureError} The file is damaged, or an animation.
 */
export function decodeWebp(data, checkSize) {
  const chunks = chunksOf(data);
  if (chunks.get("VP8X")?.[0] & ANIMATION) {
    throw new PictureError("this reader does not decode animated WebP files: save it as JPEG or PNG");
  }
  const size = sizeOf(chunks);
  checkSize(...size);
  const [width, height] = size;
  const rgba = withDecoder("webp", (library) =>
    withMemory(library, data.length, (file) =>
      withMemory(library, 8, (at) => {
        new Uint8Array(library.memory.buffer).set(data, file);
        const out = library.WebPDecodeRGBA(file, data.length, at, at + 4);
        if (out === 0) throw new PictureError("damaged or unsupported picture: a damaged or truncated WebP file");
        const pixels = new Uint8Array(library.memory.buffer, out, 4 * width * height).slice();
        library.free(out);
        return pixels;
      }),
    ),
  );
  const exif = chunks.get("EXIF");
  const isNamed = exif !== undefined && String.fromCharCode(...exif.subarray(0, 6)) === "Exif\0\0";
  const xmp = chunks.get("XMP ");
  const orientation = orientationOf(isNamed ? exif.subarray(6) : exif, xmp && new TextDecoder("latin1").decode(xmp));
  if (hasAlpha(chunks)) return { picture: { mode: "RGBA", width, height, data: rgba }, orientation };
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) for (let c = 0; c < 3; c++) rgb[3 * i + c] = rgba[4 * i + c];
  return { picture: { mode: "RGB", width, height, data: rgb }, orientation };
}

/** Return the size in the header of the pixels, which libwebp takes. */
function sizeOf(chunks) {
  const [lossy, lossless] = [chunks.get("VP8 "), chunks.get("VP8L")];
  if (lossy?.length >= 10) {
    const side = (at) => (lossy[at] | (lossy[at + 1] << 8)) & 0x3fff;
    return [side(6), side(8)];
  }
  if (lossless?.length >= 5) {
    const bits = lossless[1] | (lossless[2] << 8) | (lossless[3] << 16) | (lossless[4] << 24);
    return [(bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1];
  }
  throw new PictureError("damaged or unsupported picture: the WebP file has no pixels");
}
