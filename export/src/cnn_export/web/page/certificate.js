/** The certificate of a model in plain words, from its specification. What is missing or has another type is left out. */

import { make, percent } from "./elements.js";
import { certifiedThreshold as thresholdOf } from "./reader/lib/guarantee.js";

const NAMED = 20; // classes that are listed by name
const DIFFERING = 5; // pictures that are listed by name

const under = (value, ...keys) => keys.reduce((found, key) => found?.[key], value);
const isNumber = (...values) => values.every((value) => typeof value === "number" && Number.isFinite(value));
const count = (value) => value.toLocaleString("en");
const rounded = (value) => String(Number(value.toPrecision(3)));

function* proven(details) {
  const torch = under(details, "parity", "torch_against_onnx");
  if (isNumber(torch?.flips, torch?.images)) {
    yield ["fp32 file and trained network", `${torch.flips} of ${count(torch.images)} test pictures get another class`];
  }
  const int8 = under(details, "parity", "fp32_against_int8");
  if (isNumber(int8?.test?.flips, int8?.test?.images, int8?.test?.accuracy_fp32, int8?.test?.accuracy_int8)) {
    const { flips, images, accuracy_fp32, accuracy_int8 } = int8.test;
    const accuracies = `${percent(accuracy_fp32)} and ${percent(accuracy_int8)} accuracy`;
    yield ["fp32 and int8 file", `${accuracies}; ${flips} of ${count(images)} test pictures get another class`];
  }
  if (int8?.integers?.proven === true && !int8.integers.floats?.length) {
    yield ["int8 on other processors", "the same integers on every processor"];
  }
  const calibration = under(details, "parity", "calibration");
  if (isNumber(calibration?.ece, calibration?.images)) {
    yield [
      "calibration",
      `probabilities are off by ${percent(calibration.ece)} on average (ECE, ${count(calibration.images)} test pictures)`,
    ];
  }
}

function* promised(details, model) {
  const threshold = certifiedThreshold(model);
  if (threshold !== null && typeof details.guarantee.text === "string") {
    yield ["certified threshold", `${rounded(threshold)}: ${details.guarantee.text}`];
  }
  const strangers = details.strangers;
  if (isNumber(strangers?.rate, strangers?.false_alarms, strangers?.test_pictures)) {
    const alarms = `${count(strangers.false_alarms)} of ${count(strangers.test_pictures)} test pictures were false alarms`;
    yield ["strangers", `the model tells pictures unlike those of training (${alarms}); cnn-infer --strangers does it`];
  }
  if (under(details, "evidence", "bias") !== undefined) {
    yield ["evidence", "the model tells which parts of a picture speak for a class; cnn-infer --evidence shows it"];
  }
}

function* entries(model) {
  const { details, classes, height, width, colour, resize, filter } = model.classifier.spec;
  const { metrics, parity, data } = details;
  const more = classes.length > NAMED ? `, … (${count(classes.length)})` : "";
  yield ["classes", classes.slice(0, NAMED).join(", ") + more];
  yield ["input", `${width} x ${height} pixels, ${colour === "grey" ? "grey" : "colour"}; ${resize}, ${filter} filter`];
  const pictures = under(data, "images", "train");
  if (isNumber(pictures)) yield ["trained on", `${count(pictures)} pictures of ${data.name ?? "a folder"}`];
  const test = metrics?.test;
  if (isNumber(test?.accuracy, test?.images)) {
    const [low, high] = Array.isArray(test.accuracy_interval) ? test.accuracy_interval : [];
    const interval = isNumber(low, high) ? ` (95% confidence: ${percent(low)} to ${percent(high)})` : "";
    yield ["accuracy", `${percent(test.accuracy)} of ${count(test.images)} test pictures${interval}`];
  }
  yield* proven(details);
  yield* promised(details, model);
  if (typeof parity?.exported === "string") yield ["exported", `${parity.exported} on ${parity.machine ?? "another machine"}`];
  const { stages, deviations } = model.verification;
  const replayed = stages.map(({ stage, compared, agreed }) => `${stage} ${agreed} of ${compared}`);
  yield ["replayed on this device", replayed.join(", ") || "no pictures in the model"];
  for (const { picture, stage, reason } of deviations.slice(0, DIFFERING)) {
    yield ["differs on this device", `${picture}, ${stage}: ${reason}`];
  }
}

/** The top probability below which a model with a certified threshold does not answer, or null. */
export const certifiedThreshold = ({ classifier }) => thresholdOf(classifier.spec.details);

/** Write the certificate of a model into a description list. */
export function showCertificate(list, model) {
  list.replaceChildren();
  for (const [term, text] of entries(model)) list.append(make("dt", "", term), make("dd", "", text));
}
