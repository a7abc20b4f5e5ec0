/** The files that tests/readers/conftest.py makes with cnn_infer: what Python gives is what the reader must give. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The folder; undefined without Python, and the tests that need it are skipped. */
export const FOLDER = process.env.EDGECNN_FIXTURES;

/** Options of a test that needs the fixtures. */
export const NEEDED = {
  skip: FOLDER === undefined && "EDGECNN_FIXTURES is not set: pytest tests/readers sets it",
  timeout: 60_000,
};

export const read = (...names) => new Uint8Array(readFileSync(join(FOLDER, ...names)));
export const readJson = (...names) => JSON.parse(new TextDecoder().decode(read(...names)));
