/** From the bytes of a picture file to the pixels that a model takes. The first bytes of a file select its decoder. */

import { lineOf, PictureError } from "./errors.js";
import { upright } from "./exif.js";
import { fitted } from "./fit.js";
import { decodeBmp } from "./bmp.js";
import { decodeGif } from "./gif.js";
import { decodeJpeg } from "./jpeg.js";
import { inColour } from "./picture.js";
import { decodePng } from "./png.js";
import { decodeTiff } from "./tiff.js";
import { decodeWebp } from "./webp.js";

export const MAX_PIXELS = 100_000_000;
export const MAX_BYTES = 400_000_000;

const KINDS = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC";
const INSTEAD = "save it as JPEG or PNG";

/**
 * The decoders, by the first bytes of a file. Each returns the picture and the EXIF orientation to be applied.
 *
 * @type {[string, (data: Uint8Array, check: (width: number, height: number) => void, spec: any) => any][]}
 */
const DECODERS = [
  ["\xff\xd8\xff", decodeJpeg],
  ["\x89PNG\r\n\x1a\n", decodePng],
  ["RIFF", decodeWebp],
  ["BM", decodeBmp],
  ["GIF8", decodeGif],
  ["II*\0", decodeTiff],
  ["MM\0*", decodeTiff],
  ["II+\0", decodeTiff],
  ["MM\0+", decodeTiff],
];

const NOT_SUPPORTED = [
  ["\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"],
  ["\xff\x4f\xff\x51", "JPEG 2000"],
  ["\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"],
  ["\xff\x0a", "JPEG XL"],
  ["8BPS", "PSD"],
];

function decoderOf(data) {
  if (!data.length) throw new PictureError("the file is empty");
  const start = String.fromCharCode(...data.subarray(0, 16));
  const found = DECODERS.find(([magic]) => start.startsWith(magic));
  if (found !== undefined) return found[1];
  const unsupported = NOT_SUPPORTED.find(([magic]) => start.startsWith(magic))?.[1];
  if (unsupported !== undefined) throw new PictureError(`${unsupported} files are not supported: ${INSTEAD}`);
  if (start.slice(4, 8) === "ftyp")
    throw new PictureError(`this reader does not decode AVIF and HEIC files: ${INSTEAD}`);
  throw new PictureError(`not a picture (expected ${KINDS})`);
}

/**
 * Return the picture after each of the four stages of the contract.
 *
 * @param {Uint8Array} data The bytes of a picture file.
 * @param {import("../edgecnn.js").Spec} spec
 * @param {{maxPixels?: number, maxBytes?: number}} [limits]
 * @returns {Record<"decode" | "orientation" | "colour" | "resize", import("./picture.js").Picture>}
 * @throws {PictureError} The picture is damaged, too large, or of an unsupported kind.
 */
export function stagesOf(data, spec, { maxPixels = MAX_PIXELS, maxBytes = MAX_BYTES } = {}) {
  const number = (value) => value.toLocaleString("en");
  if (data.length > maxBytes) throw new PictureError(`the file has more than ${number(maxBytes)} bytes`);
  const checkSize = (width, height) => {
    if (!width || !height) throw new PictureError("the picture has no pixels");
    if (width * height > maxPixels) {
      throw new PictureError(`${width} x ${height} pixels exceed the limit of ${number(maxPixels)}`);
    }
  };
  try {
    const { picture: decode, orientation: number } = decoderOf(data)(data, checkSize, spec);
    const orientation = upright(decode, number);
    const colour = inColour(orientation, spec.colour);
    const { width, height } = spec;
    const resize = { mode: colour.mode, width, height, data: fitted(colour, spec) };
    return { decode, orientation, colour, resize };
  } catch (error) {
    if (error instanceof PictureError) throw error;
    // decoders of damaged files throw many kinds of errors
    throw new PictureError(`damaged or unsupported picture: ${lineOf(error)}`);
  }
}

/**
 * Convert a picture file to the model's input.
 *
 * @param {Uint8Array} data The bytes of a picture file.
 * @param {import("../edgecnn.js").Spec} spec
 * @param {{maxPixels?: number, maxBytes?: number}} [limits]
 * @returns {Uint8Array} Shape (height, width, channels) of the model.
 * @throws {PictureError} As {@link stagesOf}.
 */
export const toPixels = (data, spec, limits) => stagesOf(data, spec, limits).resize.data;
