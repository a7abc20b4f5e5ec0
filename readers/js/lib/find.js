/** Picture files below paths, in the order of cnn-infer, and their bytes. For Node. */

import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { getSystemErrorMap } from "node:util";

import { MAX_BYTES } from "./decode.js";
import { InputError, PictureError } from "./errors.js";
import { isPictureName, isSystemName } from "./names.js";

const ARCHIVES = /\.(zip|tar|tgz|tar\.gz)$/i;
const SLASH = Buffer.from("/");
const FOLDER = Buffer.from("\0"); // marks a folder: it sorts before all other bytes

/** Return what the system says of an error, as Python words it. */
function reasonOf(error) {
  const text = getSystemErrorMap().get(error.errno)?.[1] ?? error.message;
  return text[0].toUpperCase() + text.slice(1);
}

/** Return a name as text; bytes that are not UTF-8 become escapes such as `\xe9`. */
export function printable(name) {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    return decoder.decode(name);
  } catch {
    return escapedBytes(name);
  }
}

function escapedBytes(name) {
  const text = name.toString("utf8");
  const parts = text.split("\ufffd");
  let at = 0;
  let found = "";
  for (const [i, part] of parts.entries()) {
    found += part;
    at += Buffer.byteLength(part);
    if (i === parts.length - 1) break;
    const next = parts[i + 1] ? name.indexOf(parts[i + 1], at + 1) : at + 1;
    const end = next < 0 ? name.length : next;
    for (const byte of name.subarray(at, end)) found += `\\x${byte.toString(16).padStart(2, "0")}`;
    at = end;
  }
  return found;
}

const isFolder = (path) => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** Return the names of pictures and folders in a folder, in sorted order; those of folders end with {@link FOLDER}. */
function entriesOf(folder) {
  const found = [];
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: "buffer" })) {
    const name = entry.name.toString("latin1");
    if (isSystemName(name)) continue;
    if (entry.isDirectory()) found.push(Buffer.concat([entry.name, FOLDER]));
    else if (isPictureName(name) && isFileOrBroken(entry, folder)) found.push(entry.name);
  }
  return found.sort(Buffer.compare);
}

/** A broken link counts: its row shows the error. */
function isFileOrBroken(entry, folder) {
  if (entry.isFile()) return true;
  if (!entry.isSymbolicLink()) return false;
  try {
    return statSync(Buffer.concat([folder, SLASH, entry.name])).isFile();
  } catch {
    return true;
  }
}

function* walk(folder) {
  let entries;
  try {
    entries = entriesOf(folder);
  } catch {
    yield folder; // it cannot be listed: its row shows the error
    return;
  }
  const start = folder.at(-1) === SLASH[0] ? folder : Buffer.concat([folder, SLASH]);
  for (const entry of entries) {
    if (entry.at(-1) === 0) yield* walk(Buffer.concat([start, entry.subarray(0, -1)]));
    else yield Buffer.concat([start, entry]);
  }
}

/**
 * Return the picture files below paths. Links to folders are not followed.
 *
 * @param {string[]} paths Files and folders.
 * @returns {Iterable<Buffer>} Paths as bytes: names of files need not be UTF-8.
 * @throws {InputError} A path does not exist, cannot be listed, or is an archive.
 */
export function* findPictures(paths) {
  for (const path of paths) {
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined)
      throw new InputError(`no such file or folder: ${path}`);
    if (ARCHIVES.test(path) && !isFolder(path))
      throw new InputError(`this reader does not open archives: unpack ${path}`);
    try {
      if (isFolder(path)) readdirSync(path);
    } catch (error) {
      throw new InputError(`cannot list the folder ${path}: ${reasonOf(error)}`);
    }
  }
  for (const path of paths) {
    if (isFolder(path)) yield* walk(Buffer.from(path));
    else yield Buffer.from(path);
  }
}

/**
 * Return the bytes of a picture file.
 *
 * @param {Buffer} path
 * @param {number} [maxBytes] A larger file is refused before it is read.
 * @returns {Uint8Array}
 * @throws {PictureError} The file cannot be read, is too large, or is a folder, a pipe or a device.
 */
export function readPicture(path, maxBytes = MAX_BYTES) {
  let file;
  try {
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)); // do not wait for the writer of a pipe
    const status = fstatSync(file);
    if (status.isDirectory()) throw new PictureError("it is a folder; one found in a folder could not be listed");
    if (!status.isFile()) throw new PictureError("it is a pipe or a device, not a file");
    if (status.size > maxBytes) throw new PictureError(`the file has more than ${maxBytes.toLocaleString("en")} bytes`);
    return new Uint8Array(readFileSync(file));
  } catch (error) {
    throw error instanceof PictureError ? error : new PictureError(`cannot read it: ${reasonOf(error)}`);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
