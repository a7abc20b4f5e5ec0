/** Resize the pictures of a job, and print the SHA-256 of each result. benchmarks/javascript.py runs this. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { fitted } from "../lib/fit.js";

const folder = process.argv[2];
const samples = new Uint8Array(readFileSync(join(folder, "samples")));
for (const { at, width, height, spec } of JSON.parse(readFileSync(join(folder, "cases.json"), "utf8"))) {
  const length = width * height * (spec.colour === "grey" ? 1 : 3);
  const data = fitted({ width, height, data: samples.subarray(at, at + length) }, spec);
  console.log(createHash("sha256").update(data).digest("hex"));
}
