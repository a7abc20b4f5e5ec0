/** A reader with a fault fails its own verification, which names the stage. */

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import { NEEDED, read } from "./fixtures.js";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** What the fault changes in which file, from what to what, and the stage that must fail. */
const FAULTS = [
  ["another filter", "resample.js", "FILTERS[filter]", "FILTERS.box", "resize", "rgb"],
  ["wrong rounding of the resize", "resample.js", "= 1 << (PRECISION_BITS - 1)", "= 0", "resize", "rgb"],
  ["BGR in place of RGB", "jpeg.js", "RGB: [0, 3]", "RGB: [1, 3]", "decode", "rgb"],
  ["fast upsampling of colour", "jpeg.js", "height, format, 0)", "height, format, 256)", "decode", "rgb"],
  ["no scaling by the JPEG decoder", "fit.js", "[8, 4, 2]", "[]", "decode", "rgb"],
  ["no EXIF orientation", "exif.js", "if (exif === undefined)", "if (true)", "orientation", "rgb"],
  ["transparency on black", "picture.js", "255 * (255 - alpha)", "0", "colour", "rgb"],
  ["other weights of grey", "picture.js", "r * 19595 + g * 38470", "r * 19600 + g * 38465", "colour", "grey"],
  ["high bytes of 16 bits", "picture.js", "(value * 255 + 32767) / 65535", "value / 256", "colour", "grey"],
];

for (const [name, file, from, to, stage, model] of FAULTS) {
  test(name, NEEDED, async () => {
    const folder = mkdtempSync(join(tmpdir(), "edgecnn-"));
    try {
      for (const part of ["edgecnn.js", "node.js", "package.json", "lib"]) {
        cpSync(join(ROOT, part), join(folder, part), { recursive: true });
      }
      symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
      const path = join(folder, "lib", file);
      const text = readFileSync(path, "utf8");
      assert.equal(text.split(from).length, 2, `the fault does not fit: ${from}`);
      writeFileSync(path, text.replace(from, to));
      const { Classifier, verify } = await import(pathToFileURL(join(folder, "edgecnn.js")));
      const { loadNodeDecoders, loadRuntime } = await import(pathToFileURL(join(folder, "node.js")));
      await loadNodeDecoders();
      const { passed, deviations } = await verify(
        await Classifier.open(read(model, "model.onnx"), await loadRuntime()),
      );
      assert.equal(passed, false);
      assert.equal(deviations[0].stage, stage);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}
