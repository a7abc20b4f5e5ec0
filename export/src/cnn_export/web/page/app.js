/** The page: opens the models, and classifies what the user chooses, drops, photographs or draws. */

import { shot, startCamera, stopCamera } from "./camera.js";
import { certifiedThreshold, showCertificate } from "./certificate.js";
import { drawing } from "./draw.js";
import { at, lineOf, make, mebibytes, milliseconds, percent } from "./elements.js";
import { chosenFiles, contentOf, droppedFiles, trueClass } from "./files.js";
import { openModels, prepare } from "./models.js";
import { bars, Results } from "./results.js";

const FRAME = 50; // milliseconds of work before the page may react

let models = [];
let used = null;
let results = null;
let preview = "";
let stops = 0; // by it a run sees that it was stopped
let waiting = Promise.resolve();
let requested = 0;

function status(text, kind = "") {
  if (at("status").textContent === text) return; // the same again is not announced again
  at("status").textContent = text;
  at("status").className = kind;
}

/** Below the certified threshold there is no answer, if the user wants it so. */
function answered(model, prediction) {
  const threshold = at("certified").checked ? certifiedThreshold(model) : null;
  if (threshold === null || prediction.probability >= threshold) return prediction;
  return { ...prediction, label: "unknown", index: null };
}

async function classify(data) {
  const start = performance.now();
  const prediction = answered(used, await used.classifier.predict(data));
  const ms = performance.now() - start;
  const others = at("both").checked ? models.filter((model) => model !== used) : [];
  const answers = [{ model: used, prediction }];
  for (const model of others) answers.push({ model, prediction: answered(model, await model.classifier.predict(data)) });
  return { prediction, ms, answers };
}

function showAnswer(path, data, { ms, answers }) {
  URL.revokeObjectURL(preview);
  preview = URL.createObjectURL(new Blob([data]));
  at("preview").src = preview;
  at("preview").alt = path;
  const precision = ({ classifier }) => classifier.spec.details.precision;
  const titles = answers.map(({ model, prediction }, index) => {
    const time = index === 0 ? `, ${milliseconds(ms)} ms with decoding` : "";
    return bars(`${prediction.label} (${precision(model)}${time})`, prediction);
  });
  at("bars").replaceChildren(...titles);
  at("answer").hidden = false;
}

/** Classify pictures one after the other; the page stays usable in between. */
async function classifyAll(pictures, ticket) {
  if (ticket !== stops) return;
  requested += pictures.length;
  at("results").hidden = false;
  at("stop").hidden = false;
  let paused = performance.now();
  let spoken = "";
  for (const { path, file, data: given } of pictures) {
    if (ticket !== stops) break;
    try {
      const data = given ?? (await contentOf(file));
      const found = await classify(data);
      if (ticket !== stops) break;
      results.add(path, found.prediction, null, found.ms, trueClass(path, used.classifier.spec.classes));
      spoken = `${path}: ${found.prediction.label}, ${percent(found.prediction.probability)}`;
      results.differ += new Set(found.answers.map(({ prediction }) => prediction.label)).size > 1;
      if (pictures.length === 1 || performance.now() - paused > FRAME) showAnswer(path, data, found);
    } catch (error) {
      if (ticket !== stops) break;
      results.add(path, null, lineOf(error), 0, null);
      spoken = `${path}: ${lineOf(error)}`;
    }
    if (performance.now() - paused > FRAME) {
      results.show(requested, at("both").checked);
      await new Promise((done) => setTimeout(done));
      paused = performance.now();
    }
  }
  if (ticket !== stops) requested = results.count;
  results.show(requested, at("both").checked);
  at("spoken").textContent = pictures.length === 1 ? spoken : at("summary").textContent; // once, not for each picture
  if (document.activeElement === at("stop")) at("save").focus();
  at("stop").hidden = true;
}

/** Classify after what is already being classified. */
function queue(pictures) {
  if (!pictures.length) {
    status("no pictures found: expected picture files, or folders with pictures", "bad");
    return;
  }
  showState(used);
  const ticket = stops;
  waiting = waiting.then(() => classifyAll(pictures, ticket));
}

function reset() {
  stops++;
  requested = 0;
  at("files").focus();
  results.clear();
  at("results").hidden = true;
  at("answer").hidden = true;
}

function use(model) {
  used = model;
  showCertificate(at("certificate"), model);
  const threshold = certifiedThreshold(model);
  at("certified-label").hidden = threshold === null;
  at("certified-text").textContent = `Answer only from the certified threshold on (${percent(threshold ?? 0)})`;
  showState(model);
}

function showState({ classifier: { spec }, verification: { passed, stages } }) {
  const replayed = stages.length > 0;
  const state = !replayed
    ? "the model has no pictures to replay"
    : passed
      ? "verified: this device gives the answers of the export"
      : "NOT verified: this device gives other answers than the export";
  status(`${spec.classes.length} classes, ${spec.details.precision}; ${state}`, passed ? "good" : "bad");
}

function showModels() {
  at("models").replaceChildren();
  for (const model of models) {
    const { file, bytes, ms, verification } = model;
    const radio = make("input");
    Object.assign(radio, { type: "radio", name: "model", checked: model === used });
    radio.setAttribute("aria-label", `use ${file}`);
    radio.addEventListener("change", () => use(model));
    const replay = verification.passed ? "agrees" : `${verification.deviations.length} differ`;
    const proof = verification.stages.length ? replay : "no pictures";
    at("models").append(
      make(
        "tr",
        "",
        make("td", "", radio),
        make("td", "", file),
        make("td", "number", mebibytes(bytes)),
        make("td", "number", milliseconds(ms)),
        make("td", verification.passed ? "good" : "bad", proof),
      ),
    );
  }
  const [first, ...others] = models;
  if (!others.length) return;
  const ratio = (others[0].ms / first.ms).toFixed(2);
  const compared = `(${ratio} times as fast as ${others[0].file}, median, in turn)`;
  at("choice").textContent = !first.verification.passed
    ? "No file gives the answers of the export on this device."
    : `${first.file} is in use: of the files that agree with the export, it is the fastest one on this device ${compared}.`;
  at("both-label").hidden = false;
}

function connect() {
  const { spec } = used.classifier;
  const picked = (input) => () => {
    queue(chosenFiles(input));
    input.value = "";
  };
  for (const id of ["files", "folder"]) at(id).addEventListener("change", picked(at(id)));
  const drop = at("drop");
  const allow = (event) => event.preventDefault();
  for (const type of ["dragover", "drop"]) document.addEventListener(type, allow); // a miss must not leave the page
  drop.addEventListener("dragenter", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    drop.classList.remove("over");
    queue(await droppedFiles(event.dataTransfer));
  });
  at("camera").addEventListener("click", async () => {
    try {
      await startCamera(at("video"));
      at("camera-panel").hidden = false;
    } catch (error) {
      status(`the camera cannot be used: ${lineOf(error)}`, "bad");
    }
  });
  at("shoot").addEventListener("click", async () => queue([{ path: "camera.png", data: await shot(at("video")) }]));
  at("camera-close").addEventListener("click", () => {
    stopCamera(at("video"));
    at("camera-panel").hidden = true;
    at("camera").focus();
  });
  const erase = drawing(at("canvas"), (data) => queue([{ path: "drawing.png", data }]));
  at("draw").hidden = spec.colour !== "grey";
  at("draw").addEventListener("click", () => {
    at("draw-panel").hidden = false;
    at("canvas").focus();
  });
  at("erase").addEventListener("click", erase);
  at("draw-close").addEventListener("click", () => {
    at("draw-panel").hidden = true;
    at("draw").focus();
  });
  at("stop").addEventListener("click", () => stops++);
  at("clear").addEventListener("click", reset);
  at("save").addEventListener("click", () => {
    const link = make("a");
    Object.assign(link, { href: URL.createObjectURL(results.csv), download: "rows.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  for (const id of ["files", "folder", "camera", "draw"]) at(id).disabled = false;
}

async function start() {
  try {
    const site = await (await fetch("site.json", { cache: "no-cache" })).json();
    document.title = site.title;
    at("title").textContent = site.title;
    await prepare();
    models = await openModels(site.models);
    results = new Results(models[0].classifier.spec.classes);
    use(models[0]);
    showModels();
    connect();
  } catch (error) {
    status(`the model cannot be opened: ${lineOf(error)}`, "bad");
  }
  document.documentElement.dataset.ready = "";
  navigator.serviceWorker?.register("worker.js").catch(() => {}); // without it the page needs a network each time
}

await start();
