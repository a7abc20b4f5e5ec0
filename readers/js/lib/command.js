/** The command `edgecnn`: the rows of `cnn-infer --format csv`, or a verification. For Node. */

import { readFileSync, statSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";

import { loadNodeDecoders, loadRuntime } from "../node.js";
import { CERTIFIED, Classifier } from "./classifier.js";
import { InputError, lineOf, ModelError, PictureError } from "./errors.js";
import { findPictures, printable, readPicture } from "./find.js";
import { csvHeader, csvRow } from "./rows.js";
import { verify } from "./verify.js";

const BATCH_SIZE = 32; // as cnn-infer: probabilities of fp32 models depend on it in the last digits
const PROGRESS_MS = 10_000;
const MOST_MODEL_BYTES = 2 ** 31;
const MOST_LINES = 8; // deviations of a stage that are printed

const USAGE = `Usage: edgecnn MODEL.onnx PATH... [options]
       edgecnn MODEL.onnx --verify

Classify pictures: prints the rows of cnn-infer --format csv. Each PATH is a picture or a folder.

  --top N           Classes per picture, most probable first. Default: 5.
  --threshold P     Lowest accepted probability. Below it the label is 'unknown'. certified: the threshold that
                    cnn-export --max-error proved. Default: 0.
  --max-pixels N    Largest picture in pixels, width x height. Default: 100000000.
  --max-bytes N     Largest picture file in bytes. Default: 400000000.
  --runtime NAME    node: ONNX Runtime as native code; web: as WebAssembly. Default: node.
  --verify          Replay the pictures inside the model and compare each stage with the export. Exit with code 1 if
                    one differs.
  --help            Print this text.
`;

const OPTIONS = {
  top: { type: "string" },
  threshold: { type: "string" },
  "max-pixels": { type: "string" },
  "max-bytes": { type: "string" },
  runtime: { type: "string", default: "node" },
  verify: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
};

const WITHOUT_EFFECT = ["top", "threshold", "max-pixels", "max-bytes"]; // with --verify

class CheckError extends Error {}

const SHORT_ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Escape control characters, as cnn-infer does: a name of a file or a class must not control the terminal. */
function escaped(text) {
  return text.replace(/[\p{C}\p{Z}]/gu, (letter) => {
    if (letter === " ") return letter;
    const code = letter.codePointAt(0);
    const [prefix, digits] = code < 256 ? ["\\x", 2] : code < 65_536 ? ["\\u", 4] : ["\\U", 8];
    return SHORT_ESCAPES[letter] ?? prefix + code.toString(16).padStart(digits, "0");
  });
}

const message = (text) => process.stderr.write(`${escaped(text)}\n`);

function wholeNumber(values, name) {
  const text = values[name];
  if (text === undefined) return undefined;
  if (!/^[1-9][0-9]{0,14}$/.test(text))
    throw new InputError(`--${name} must be a whole number of at least 1, not ${text}`);
  return Number(text);
}

function thresholdOf(text = "0") {
  if (text === CERTIFIED) return CERTIFIED;
  const threshold = Number(text);
  if (threshold >= 0 && threshold <= 1 && text.trim() !== "") return threshold;
  throw new InputError(`--threshold must be a probability from 0 to 1, or ${CERTIFIED}, not ${text}`);
}

/** Say in one line what is wrong with the options. */
function mistakeIn(error) {
  const [option] = /--[^' ]+/.exec(error.message) ?? /-[^']/.exec(error.message) ?? [];
  if (option === "--model") return "the model is the first argument: edgecnn MODEL.onnx PATH...";
  if (error.code === "ERR_PARSE_ARGS_UNKNOWN_OPTION") return `no such option: ${option}`;
  if (error.code !== "ERR_PARSE_ARGS_INVALID_OPTION_VALUE") return lineOf(error);
  return OPTIONS[option.slice(2)].type === "string" ? `${option} needs a value` : `${option} takes no value`;
}

function parsed(args) {
  let found;
  try {
    found = parseArgs({ args, options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new InputError(mistakeIn(error));
  }
  const { values, positionals } = found;
  const threshold = thresholdOf(values.threshold);
  if (!["node", "web"].includes(values.runtime))
    throw new InputError(`--runtime must be node or web, not ${values.runtime}`);
  const [top, maxPixels, maxBytes] = ["top", "max-pixels", "max-bytes"].map((name) => wholeNumber(values, name));
  const [model, ...paths] = positionals;
  if (values.help) return { help: true };
  if (model === undefined) throw new InputError("name a model and pictures");
  if (values.verify && paths.length) throw new InputError("--verify takes no pictures: it replays those in the model");
  const useless = WITHOUT_EFFECT.filter((name) => values.verify && values[name] !== undefined);
  if (useless.length) throw new InputError(`no effect with --verify: --${useless.join(", --")}`);
  if (!values.verify && !paths.length) throw new InputError("name pictures or folders, or pass --verify");
  return { ...values, model, paths, top, threshold, maxPixels, maxBytes };
}

async function opened({ model, runtime, top, threshold, maxPixels, maxBytes }) {
  let data;
  try {
    if (statSync(model).size > MOST_MODEL_BYTES) throw new ModelError(`the model is larger than 2 GiB: ${model}`);
    data = new Uint8Array(readFileSync(model));
  } catch (error) {
    throw error instanceof ModelError ? error : new ModelError(`cannot read the model: ${model} (${error.code})`);
  }
  await loadNodeDecoders();
  let ort;
  try {
    ort = await loadRuntime(runtime);
  } catch (error) {
    throw new InputError(
      `onnxruntime-${runtime} cannot be loaded: npm install onnxruntime-${runtime} (${lineOf(error)})`,
    );
  }
  try {
    return await Classifier.open(data, ort, { top, threshold, maxPixels, maxBytes });
  } catch (error) {
    throw error instanceof ModelError ? new ModelError(`${error.message}: ${model}`) : error;
  }
}

/** Write to standard output, also to a slow pipe. */
function print(text) {
  const data = Buffer.from(text);
  for (let at = 0; at < data.length;) {
    try {
      at += writeSync(1, data, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

/** Return the rows of a batch of pictures. */
async function rowsOf(classifier, batch, maxBytes) {
  const results = batch.map((path) => {
    try {
      return { path, pixels: classifier.pixels(readPicture(path, maxBytes)) };
    } catch (error) {
      if (!(error instanceof PictureError)) throw error;
      return { path, error: error.message };
    }
  });
  const good = results.filter(({ pixels }) => pixels !== undefined);
  const found = good.length ? await classifier.probabilities(good.map(({ pixels }) => pixels)) : [];
  const predictions = found.values();
  return results.map(({ path, error = null }) => {
    const prediction = error === null ? classifier.toPrediction(predictions.next().value) : null;
    return { text: csvRow(printable(path), prediction, error), failed: error !== null };
  });
}

async function classify(classifier, { paths, maxBytes }) {
  let [rows, failed, batch, shown] = [0, 0, [], Date.now()];
  const flush = async () => {
    for (const { text, failed: isError } of await rowsOf(classifier, batch, maxBytes)) {
      if (!rows) print(csvHeader);
      print(process.stdout.isTTY ? `${escaped(text.slice(0, -1))}\n` : text);
      rows += 1;
      failed += isError;
    }
    batch = [];
    if (Date.now() - shown < PROGRESS_MS) return;
    shown = Date.now();
    message(`classifying: ${rows.toLocaleString("en")} pictures`);
  };
  for (const path of findPictures(paths)) {
    batch.push(path);
    if (batch.length === BATCH_SIZE) await flush();
  }
  if (batch.length) await flush();
  if (!rows) throw new InputError("no pictures found: expected files or folders with pictures");
  if (failed) message(`${failed.toLocaleString("en")} of ${rows.toLocaleString("en")} pictures could not be read`);
  if (failed === rows) throw new CheckError("none of the pictures could be read");
}

async function verifyModel(classifier) {
  const { passed, stages, deviations } = await verify(classifier);
  const failures = [];
  for (const { stage, compared, agreed, worst } of stages) {
    const pictures = stage === "graph" ? "golden pictures" : "files";
    const gap = worst === null ? "" : ` (worst difference ${worst.toPrecision(2)})`;
    message(`  ${stage}: ${agreed} of ${compared} ${pictures} agree${gap}`);
    const own = deviations.filter((one) => one.stage === stage);
    for (const { picture, reason } of own.slice(0, MOST_LINES)) message(`    ${picture}: ${reason}`);
    if (own.length > MOST_LINES) message(`    and ${own.length - MOST_LINES} more`);
    if (agreed < compared) failures.push(`${stage} differs for ${compared - agreed} of ${compared} ${pictures}`);
  }
  if (!passed) throw new CheckError(failures.join("; "));
  message("verified: every stage gives the same as at export");
}

/**
 * Run the command.
 *
 * @param {string[]} args
 * @returns {Promise<number>} The exit code: 1 for a check that failed, 2 for a mistake of the user.
 */
export async function main(args) {
  try {
    const options = parsed(args);
    if (options.help) print(USAGE);
    else if (options.verify) await verifyModel(await opened(options));
    else await classify(await opened(options), options);
    return 0;
  } catch (error) {
    if (error.code === "EPIPE") return 0; // the reader of the pipe has enough
    const isKnown = [CheckError, InputError, ModelError].some((kind) => error instanceof kind);
    if (!isKnown && error.syscall === undefined) throw error;
    const hint = error instanceof InputError ? " (edgecnn --help explains)" : "";
    message(`edgecnn: ${lineOf(error)}${hint}`);
    return error instanceof CheckError ? 1 : 2;
  }
}
