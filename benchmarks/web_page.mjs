// What benchmarks/web.py measures inside Chromium; tests/browser/visit.mjs calls it with the page of cnn-export --web.

/** Runs in the page. Decodes pictures in three ways, and classifies each with the model in use. */
async function answers({ files, used }) {
  const [{ Classifier, stagesOf }, ort, { fitted }, { inColour }] = await Promise.all(
    ["reader/edgecnn.js", "vendor/ort.wasm.min.mjs", "reader/lib/fit.js", "reader/lib/picture.js"].map(
      (name) => import(new URL(name, location.href).href),
    ),
  );
  const bytesOf = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
  const classifier = await Classifier.open(await bytesOf(used), ort, { session: { executionProviders: ["wasm"] } });
  const { spec } = classifier;
  const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const drawn = (bitmap, box, width, height) => {
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, ...box, 0, 0, width, height);
    return inColour({ mode: "RGBA", width, height, data: context.getImageData(0, 0, width, height).data }, spec.colour);
  };
  const found = [];
  for (const name of files) {
    const data = await bytesOf(name);
    const ways = { reader: stagesOf(data, spec).resize.data };
    const bitmap = await createImageBitmap(new Blob([data]));
    const { width, height } = bitmap;
    ways["browser, resize of the reader"] = fitted(drawn(bitmap, [0, 0, width, height], width, height), spec);
    if (spec.resize !== "pad") {
      const both = Math.min(width / spec.width, height / spec.height);
      const [across, down] = spec.resize === "crop" ? [both, both] : [width / spec.width, height / spec.height];
      const [w, h] = [across * spec.width, down * spec.height];
      const box = [(width - w) / 2, (height - h) / 2, w, h];
      ways["browser, resize of the canvas"] = drawn(bitmap, box, spec.width, spec.height).data;
    }
    const one = {};
    for (const [way, pixels] of Object.entries(ways)) {
      const [row] = await classifier.probabilities([pixels]);
      const off = pixels.reduce((sum, value, i) => sum + Math.abs(value - ways.reader[i]), 0) / pixels.length;
      one[way] = { sha256: hex(await crypto.subtle.digest("SHA-256", pixels)), probabilities: Array.from(row), off };
    }
    found.push(one);
  }
  return found;
}

const seconds = () => performance.now() / 1000;

export default async function measure(page, { files }) {
  await page.waitForSelector("html[data-ready]");
  const first = await page.evaluate(seconds);
  const fetched = await page.evaluate(() =>
    performance.getEntriesByType("resource").map(({ name }) => new URL(name).pathname.slice(1)),
  );
  const cells = await page.$$eval("#models tr", (rows) =>
    rows.map((row) => Array.from(row.children, (cell) => cell.textContent)),
  );
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.reload();
  await page.waitForSelector("html[data-ready]");
  const second = await page.evaluate(seconds);
  const isolated = await page.evaluate(() => globalThis.crossOriginIsolated);
  const models = Object.fromEntries(cells.map(([, file, , ms]) => [file, Number(ms)]));
  const used = cells[0][1];
  return {
    browser: `Chromium ${page.context().browser().version()}`,
    used,
    fetched,
    classes: await page.evaluate(async (name) => {
      const { readSpec } = await import(new URL("reader/edgecnn.js", location.href).href);
      return readSpec(new Uint8Array(await (await fetch(name)).arrayBuffer())).classes;
    }, used),
    speed: { isolated, first_load_seconds: first, second_load_seconds: second, ms_a_picture: models },
    pictures: files.length ? await page.evaluate(answers, { files, used }) : [],
  };
}
