// Opens pages in Chromium and prints what it finds as JSON; tests/browser/conftest.py starts it.
//
// Standard input: {chromium, views: [{target, width, scheme, screenshot?, script?, offline?}]}. A view's `target` is a
// URL, `width` in CSS pixels, `scheme` "light" or "dark", `screenshot` the PNG file to write, and `script` the path of
// a module whose default export gets the Playwright page before it is checked; its value comes back as `result`.
// Standard output: for each view, {violations, errors, requests, overflow, result}.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function visit(browser, view) {
  const context = await browser.newContext({
    viewport: { width: view.width, height: 800 },
    colorScheme: view.scheme,
    bypassCSP: false,
    offline: view.offline ?? false,
  });
  const page = await context.newPage();
  const errors = [];
  const requests = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("dialog", (dialog) => (errors.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  page.on("request", (request) => request.url().startsWith("data:") || requests.push(request.url()));
  await page.goto(view.target, { waitUntil: "load" });
  const result = view.script ? await (await import(pathToFileURL(view.script))).default(page, view) : null;
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  const overflow = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    return scrollWidth - clientWidth;
  });
  if (view.screenshot) await page.screenshot({ path: view.screenshot, fullPage: true });
  await context.close();
  const found = violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map(({ html }) => html) }));
  return { violations: found, errors, requests, overflow, result: result ?? null };
}

const job = JSON.parse(readFileSync(0, "utf8"));
const browser = await chromium.launch({ executablePath: job.chromium, args: FLAGS, headless: true });
try {
  const seen = [];
  for (const view of job.views) seen.push(await visit(browser, view));
  process.stdout.write(JSON.stringify(seen));
} finally {
  await browser.close();
}
