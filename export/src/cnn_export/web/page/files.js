/** Pictures that the user chose or dropped, with their paths. In folders, other files are left out. */

import { MAX_BYTES } from "./reader/lib/decode.js";
import { isPictureName, isSystemName } from "./reader/lib/names.js";

const byPath = (a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0);

/** Whether a file is taken, as in cnn-infer: one that was chosen itself always, one in a folder by the names below it. */
function isTaken({ path }) {
  const [, ...names] = path.split("/");
  return !names.length || (isPictureName(names.at(-1)) && !names.some(isSystemName));
}

/** The bytes of a file. One beyond the limit of the reader is not read. */
export async function contentOf(file) {
  if (file.size > MAX_BYTES) throw new Error(`the file has more than ${MAX_BYTES.toLocaleString("en")} bytes`);
  return new Uint8Array(await file.arrayBuffer());
}

/** The files of an input element, sorted by path. */
export function chosenFiles(input) {
  const found = Array.from(input.files, (file) => ({ path: file.webkitRelativePath || file.name, file }));
  return found.filter(isTaken).sort(byPath);
}

async function below(entry) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    return [{ path: entry.fullPath.replace(/^\//, ""), file }];
  }
  const reader = entry.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // at most 100 at a time
    if (!some.length) break;
    entries.push(...some);
  }
  const found = [];
  for (const one of entries) found.push(...(await below(one)));
  return found;
}

/** The files that were dropped, also those in dropped folders, sorted by path. */
export async function droppedFiles(transfer) {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.()).filter(Boolean); // before any await
  const loose = entries.length ? [] : Array.from(transfer.files, (file) => ({ path: file.name, file }));
  const found = [...loose];
  for (const entry of entries) found.push(...(await below(entry)));
  return found.filter(isTaken).sort(byPath);
}

/**
 * Return the index of the true class of a picture, or null: the first folder below the chosen one that has the name of a
 * class, or else the chosen one itself, as in cnn-infer.
 */
export function trueClass(path, classes) {
  const [top, ...folders] = path.normalize("NFC").split("/").slice(0, -1);
  const names = classes.map((name) => name.normalize("NFC"));
  const match = [...folders, top].find((name) => names.includes(name));
  return match === undefined ? null : names.indexOf(match);
}
