/**
 * Decode the files of a job, and print what each gives after each stage, or its error, and the milliseconds: a line of
 * JSON a file. The job, `{"spec": ..., "files": [...]}`, comes on standard input. benchmarks/javascript.py runs this.
 */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { PictureError, stagesOf } from "../edgecnn.js";
import { loadNodeDecoders } from "../node.js";

await loadNodeDecoders();
const { spec, files } = JSON.parse(readFileSync(0, "utf8"));
for (const file of files) {
  const data = new Uint8Array(readFileSync(file));
  const start = performance.now();
  let found;
  try {
    const stages = Object.entries(stagesOf(data, spec, { maxPixels: 1e6 }));
    found = { stages: Object.fromEntries(stages.map(([name, picture]) => [name, digest(picture)])) };
  } catch (error) {
    if (!(error instanceof PictureError)) throw error;
    found = { error: error.message };
  }
  console.log(JSON.stringify({ ...found, ms: performance.now() - start }));
}

function digest({ mode, width, height, data }) {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return [mode, width, height, createHash("sha256").update(bytes).digest("hex")];
}
