/** JPEG files, decoded by libjpeg-turbo: the accurate integer transform and smooth upsampling of colour. */

import { withDecoder, withMemory } from "./codecs.js";
import { PictureError } from "./errors.js";
import { isTurned, orientationOf } from "./exif.js";
import { jpegDivisor } from "./fit.js";

const START_OF_SCAN = 0xda;
const END_OF_IMAGE = 0xd9;
const APP1 = 0xe1;
const MAX_SCANS = 500;
const MAX_SEGMENTS = 10_000;
const ADVICE = "save it as grey or RGB, with 8 bits a sample";

// constants of turbojpeg.h: colour spaces of files, and formats of pixels
const SPACE_GREY = 2;
const SPACES_CMYK = [3, 4];
const FORMATS = { RGB: [0, 3], L: [6, 1], CMYK: [11, 4] };

const isFrame = (marker) => marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);

/**
 * Return the segments of a JPEG file up to its end marker.
 *
 * @param {Uint8Array} data
 * @returns {{segments: {marker: number, content: Uint8Array}[], ended: boolean}} `ended`: whether it has one.
 */
function segmentsOf(data) {
  const segments = [];
  let at = 2;
  for (;;) {
    at = data.indexOf(0xff, at);
    if (at < 0 || at + 1 >= data.length) return { segments, ended: false };
    const marker = data[at + 1];
    if (marker === END_OF_IMAGE) return { segments, ended: true };
    if (marker < 2 || marker === 0xff || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 1; // a stuffed, a fill or a restart byte
      continue;
    }
    if (at + 4 > data.length) return { segments, ended: false };
    if (segments.length === MAX_SEGMENTS) {
      throw new PictureError(`the JPEG file has more than ${MAX_SEGMENTS.toLocaleString("en")} segments`);
    }
    const end = at + 2 + data[at + 2] * 256 + data[at + 3];
    segments.push({ marker, content: data.subarray(at + 4, end) });
    at = Math.max(end, at + 2);
  }
}

/** Refuse by name what no decoder supports. */
function checkFrame(frame, marker) {
  if (frame === undefined || frame.length < 6) throw new PictureError("damaged or unsupported picture: no JPEG frame");
  const factors = Array.from(frame.subarray(7)).filter((_, i) => i % 3 === 0);
  const most = [0, 4].map((shift) => Math.max(1, ...factors.map((factor) => (factor >> shift) & 15)));
  const fractional = factors.some((factor) =>
    [0, 4].some((shift, axis) => ((factor >> shift) & 15) !== 0 && most[axis] % ((factor >> shift) & 15) !== 0),
  );
  let kind;
  if (frame[0] !== 8) kind = `JPEG with ${frame[0]} bits a sample`;
  else if ([0xc5, 0xc6, 0xc7, 0xcd, 0xce, 0xcf].includes(marker)) kind = "hierarchical JPEG";
  else if (frame[1] === 0 && frame[2] === 0) kind = "JPEG without a height in its header";
  else if (![1, 3, 4].includes(frame[5])) kind = `JPEG with ${frame[5]} components`;
  else if (fractional) kind = "JPEG with fractional sampling factors";
  if (kind !== undefined) throw new PictureError(`${kind} is not supported: ${ADVICE}`);
  const here = marker >= 0xc9 ? "with arithmetic coding" : marker === 0xc3 ? "without loss" : undefined;
  if (here !== undefined)
    throw new PictureError(`this reader does not decode JPEG files ${here}: save it as JPEG or PNG`);
}

const startsWith = (content, text) => [...text].every((letter, i) => content[i] === letter.charCodeAt(0));

/** Return the EXIF orientation; all EXIF segments together are one block. */
function orientationIn(segments) {
  const metadata = segments.filter(({ marker }) => marker === APP1).map(({ content }) => content);
  const blocks = metadata.filter((content) => startsWith(content, "Exif\0\0")).map((content) => content.subarray(6));
  if (!blocks.length) return 1;
  const exif = new Uint8Array(blocks.reduce((sum, block) => sum + block.length, 0));
  blocks.reduce((at, block) => (exif.set(block, at), at + block.length), 0);
  const xmp = metadata.find((content) => startsWith(content, "http://ns.adobe.com/xap/1.0/\0"));
  return orientationOf(exif, xmp && new TextDecoder("latin1").decode(xmp));
}

/**
 * Decode a JPEG file.
 *
 * @param {Uint8Array} data The bytes of the file.
 * @param {(width: number, height: number) => void} checkSize Called before the pixels are decoded.
 * @param {import("../edgecnn.js").Spec} spec Pictures much larger than the input are decoded at 1/2, 1/4 or 1/8.
 * @returns {{picture: import("./picture.js").Picture, orientation: number}}
 * @throws {PictureError} The file is damaged, or of a kind that is not supported.
 */
export function decodeJpeg(data, checkSize, spec) {
  const { segments, ended } = segmentsOf(data);
  if (segments.filter(({ marker }) => marker === START_OF_SCAN).length > MAX_SCANS) {
    throw new PictureError(`the JPEG file has more than ${MAX_SCANS} scans: save it anew`);
  }
  const frame = segments.find(({ marker }) => isFrame(marker));
  checkFrame(frame?.content, frame?.marker);
  const [, high, low, wide, narrow] = frame.content;
  const [width, height] = [wide * 256 + narrow, high * 256 + low];
  checkSize(width, height);
  const orientation = orientationIn(segments);
  const divisor = isTurned(orientation) ? jpegDivisor(height, width, spec) : jpegDivisor(width, height, spec);
  const whole = ended ? data : withEndMarker(data);
  const decoded = decodePixels(whole, Math.ceil(width / divisor), Math.ceil(height / divisor));
  if (decoded.warned && !ended) throw new PictureError("damaged or unsupported picture: the JPEG file is truncated");
  return { picture: decoded.picture, orientation };
}

function withEndMarker(data) {
  const ended = new Uint8Array(data.length + 2);
  ended.set(data);
  ended.set([0xff, END_OF_IMAGE], data.length);
  return ended;
}

/** Decode to a size that is the picture's, divided by 1, 2, 4 or 8. */
function decodePixels(data, width, height) {
  return withDecoder("jpeg", (turbo) =>
    withMemory(turbo, data.length, (file) => {
      new Uint8Array(turbo.memory.buffer).set(data, file);
      const decoder = turbo.tjInitDecompress();
      const mode = modeOf(turbo, decoder, file, data.length);
      const [format, channels] = FORMATS[mode];
      const size = width * height * channels;
      const found = withMemory(turbo, size, (out) => {
        const status = turbo.tjDecompress2(decoder, file, data.length, out, width, width * channels, height, format, 0);
        return { warned: status !== 0, pixels: new Uint8Array(turbo.memory.buffer, out, size).slice() };
      });
      turbo.tjDestroy(decoder);
      // encoders write CMYK inverted, as Adobe does
      if (mode === "CMYK") found.pixels.forEach((value, i) => (found.pixels[i] = 255 - value));
      return { warned: found.warned, picture: { mode, width, height, data: found.pixels } };
    }),
  );
}

function modeOf(turbo, decoder, file, length) {
  return withMemory(turbo, 16, (at) => {
    new Uint8Array(turbo.memory.buffer).fill(0, at, at + 16);
    // it also fails at a sampling of colour that it has no name for, and the decoder supports
    turbo.tjDecompressHeader3(decoder, file, length, at, at + 4, at + 8, at + 12);
    const [width, , , space] = new Int32Array(turbo.memory.buffer, at, 4);
    if (width === 0) throw new PictureError("damaged or unsupported picture: a damaged JPEG header");
    if (space === SPACE_GREY) return "L";
    return SPACES_CMYK.includes(space) ? "CMYK" : "RGB";
  });
}
