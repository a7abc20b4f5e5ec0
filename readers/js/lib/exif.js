/** The EXIF orientation of a picture, 1 to 8 (Exif 2.32, tag 274), and how the picture is turned upright by it. */

const ORIENTATION = 0x0112;
const UINT_READERS = { 1: ["getUint8", 1], 3: ["getUint16", 2], 4: ["getUint32", 4] };

/**
 * Return the orientation in a block of EXIF data.
 *
 * @param {Uint8Array | undefined} exif Begins with `II` or `MM`.
 * @param {string} [xmp] Decides if the block has no orientation.
 * @returns {number} 1 if there is none, or the data are damaged.
 */
export function orientationOf(exif, xmp = "") {
  if (exif === undefined) return 1;
  try {
    return fromDirectory(exif) ?? Number(/tiff:Orientation(?:="|>)([0-9])/.exec(xmp)?.[1] ?? 1);
  } catch (error) {
    if (error instanceof RangeError) return 1; // cut off: the pixels can be good all the same
    throw error;
  }
}

function fromDirectory(exif) {
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const order = view.getUint16(0);
  const little = order === 0x4949;
  if (!little && order !== 0x4d4d) return 1;
  const start = view.getUint32(4, little);
  const entries = view.getUint16(start, little);
  for (let i = 0, at = start + 2; i < entries; i++, at += 12) {
    if (view.getUint16(at, little) !== ORIENTATION) continue;
    const reader = UINT_READERS[view.getUint16(at + 2, little)];
    return reader && view.getUint32(at + 4, little) === 1 ? view[reader[0]](at + 8, little) : 1;
  }
  return undefined;
}

/** Whether an orientation exchanges width and height. */
export const isTurned = (orientation) => orientation >= 5 && orientation <= 8;

/**
 * Turn a picture upright.
 *
 * @param {import("./picture.js").Picture} picture
 * @param {number} orientation
 * @returns {import("./picture.js").Picture}
 */
export function upright(picture, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return picture;
  const { width, height, data } = picture;
  const channels = data.length / (width * height);
  const [newWidth, newHeight] = isTurned(orientation) ? [height, width] : [width, height];
  const mirrorX = [2, 3, 7, 8].includes(orientation); // in the stored picture, before width and height are exchanged
  const mirrorY = [3, 4, 6, 7].includes(orientation);
  const turned = new data.constructor(data.length);
  let out = 0;
  for (let y = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      const [column, row] = isTurned(orientation) ? [y, x] : [x, y];
      const sourceX = mirrorX ? width - 1 - column : column;
      const sourceY = mirrorY ? height - 1 - row : row;
      const at = (sourceY * width + sourceX) * channels;
      for (let c = 0; c < channels; c++) turned[out++] = data[at + c];
    }
  }
  return { ...picture, width: newWidth, height: newHeight, data: turned };
}
