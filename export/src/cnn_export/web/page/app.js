/** The page: opens the models, and classifies what the user chooses, drops, photographs or draws. */

import { shot, startCamera, stopCamera } from "./camera.js";
import { showCertificate } from "./certificate.js";
import { drawing } from "./draw.js";
import { at, lineOf, make, mebibytes, milliseconds } from "./elements.js";
import { chosenFiles, droppedFiles, trueClass } from "./files.js";
import { openModels, prepare } from "./models.js";
import { bars, Results } from "./results.js";

const FRAME = 30; // milliseconds of work before the page may react

let models = [];
let used = null;
let results = null;
let preview = "";
let isStopped = false;
let waiting = Promise.resolve();
let requested = 0;

function status(text, kind = "") {
  at("status").textContent = text;
  at("status").className = kind;
}

async function classify(data) {
  const start = performance.now();
  const prediction = await used.classifier.predict(data);
  const ms = performance.now() - start;
  const others = at("both").checked ? models.filter((model) => model !== used) : [];
  const answers = [{ model: used, prediction }];
  for (const model of others) answers.push({ model, prediction: await model.classifier.predict(data) });
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
async function classifyAll(pictures) {
  if (!pictures.length) return;
  requested += pictures.length;
  at("results").hidden = false;
  at("stop").hidden = false;
  isStopped = false;
  let paused = performance.now();
  for (const { path, file, data: given } of pictures) {
    if (isStopped) {
      requested = results.count;
      break;
    }
    try {
      const data = given ?? new Uint8Array(await file.arrayBuffer());
      const found = await classify(data);
      results.add(path, found.prediction, null, found.ms, trueClass(path, used.classifier.spec.classes));
      results.differ += new Set(found.answers.map(({ prediction }) => prediction.label)).size > 1;
      if (pictures.length === 1 || performance.now() - paused > FRAME) showAnswer(path, data, found);
    } catch (error) {
      results.add(path, null, lineOf(error), 0, null);
    }
    if (performance.now() - paused > FRAME) {
      results.show(requested, at("both").checked);
      await new Promise((done) => setTimeout(done));
      paused = performance.now();
    }
  }
  results.show(requested, at("both").checked);
  at("stop").hidden = true;
}

/** Classify after what is already being classified. */
function queue(pictures) {
  waiting = waiting.then(() => classifyAll(pictures));
}

function reset() {
  requested = 0;
  results.clear();
  at("results").hidden = true;
  at("answer").hidden = true;
}

function use(model) {
  used = model;
  showCertificate(at("certificate"), model);
  const { spec } = model.classifier;
  const { passed, stages } = model.verification;
  const replayed = stages.some(({ compared }) => compared > 0);
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
    const proof = verification.passed ? "agrees" : `${verification.deviations.length} differ`;
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
  const compared = `(${ratio} times as fast as ${others[0].file}, median of 31 runs in turn)`;
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
  });
  const erase = drawing(at("canvas"), (data) => queue([{ path: "drawing.png", data }]));
  at("draw").hidden = spec.colour !== "grey";
  at("draw").addEventListener("click", () => {
    at("draw-panel").hidden = false;
    at("canvas").focus();
  });
  at("erase").addEventListener("click", erase);
  at("draw-close").addEventListener("click", () => (at("draw-panel").hidden = true));
  at("stop").addEventListener("click", () => (isStopped = true));
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
    const site = await (await fetch("site.json")).json();
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
