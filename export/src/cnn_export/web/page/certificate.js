/** The certificate of a model in plain words, from its specification. */

import { make, percent } from "./elements.js";

function* entries({ spec }, { verification }) {
  const { details, classes, height, width, colour, resize, filter } = spec;
  const { metrics, parity, data } = details;
  yield ["classes", classes.length > 20 ? `${classes.length}: ${classes.slice(0, 20).join(", ")}, …` : classes.join(", ")];
  yield ["input", `${width} x ${height} pixels, ${colour === "grey" ? "grey" : "colour"}; ${resize}, ${filter} filter`];
  if (data?.images) yield ["trained on", `${data.images.train.toLocaleString("en")} pictures of ${data.name ?? "a folder"}`];
  if (metrics?.test) {
    const [low, high] = metrics.test.accuracy_interval ?? [];
    const interval = low === undefined ? "" : ` (95% confidence: ${percent(low)} to ${percent(high)})`;
    yield ["accuracy of the trained network", `${percent(metrics.test.accuracy)} of ${metrics.test.images.toLocaleString("en")} test pictures${interval}`];
  }
  const torch = parity?.torch_against_onnx;
  if (torch) {
    yield [
      "the fp32 file against the trained network",
      `${torch.flips} of ${torch.images.toLocaleString("en")} test pictures get another class`,
    ];
  }
  const int8 = parity?.fp32_against_int8;
  if (int8?.test?.flips !== undefined) yield ["the int8 file against fp32", `${int8.test.flips} of ${int8.test.images ?? torch?.images} test pictures get another class`];
  if (int8?.integers?.proven && !int8.integers.floats?.length) yield ["processors", "the same integers on every processor"];
  const confidence = details.confidence?.sentence ?? details.guarantee?.sentence;
  if (confidence) yield ["guarantee", confidence];
  if (parity?.exported) yield ["exported", `${parity.exported} on ${parity.machine}`];
  const stages = verification.stages.filter(({ compared }) => compared > 0);
  yield [
    "replayed on this device",
    stages.map(({ stage, compared, agreed }) => `${stage} ${agreed} of ${compared}`).join(", ") || "no pictures in the model",
  ];
  for (const { picture, stage, reason } of verification.deviations.slice(0, 5)) yield ["differs here", `${picture}, ${stage}: ${reason}`];
}

/** Write the certificate of a model into a description list. */
export function showCertificate(list, model) {
  list.replaceChildren();
  for (const [term, text] of entries(model.classifier, model)) list.append(make("dt", "", term), make("dd", "", String(text)));
}
