/** A model that classifies pictures, on any ONNX Runtime for JavaScript. */

import { toPixels } from "./decode.js";
import { InputError, lineOf, ModelError } from "./errors.js";
import { certifiedThreshold } from "./guarantee.js";
import { readMetadata, refersToFiles } from "./metadata.js";
import { withoutOptionalOutputs } from "./optional_outputs.js";
import { readSpec } from "./spec.js";

const INPUT = "image";
const LOGITS = "logits";
const PROBABILITIES = "probabilities";
const UNKNOWN = "unknown";
/** The threshold of the model's guarantee, in place of a number. */
export const CERTIFIED = "certified";

/** Sessions write nothing, and one picture runs on one thread: as cnn-infer opens them. */
const SESSION_OPTIONS = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4 };

/** An open model. Make it with {@link Classifier.open}. */
export class Classifier {
  #ort;
  #session;
  #top;
  #threshold;
  #limits;

  constructor(ort, session, model, { top = 5, threshold = 0, maxPixels, maxBytes } = {}) {
    this.spec = readSpec(model);
    this.metadata = readMetadata(model);
    this.#ort = ort;
    this.#session = session;
    this.#top = Math.min(top, this.spec.classes.length);
    this.#threshold = threshold === CERTIFIED ? certifiedThreshold(this.spec.details) : threshold;
    this.#limits = { maxPixels, maxBytes };
  }

  /**
   * Open a model.
   *
   * @param {Uint8Array} model The bytes of an `.onnx` file that cnn-export wrote.
   * @param {any} ort The module `onnxruntime-web` or `onnxruntime-node`.
   * @param {import("../edgecnn.js").Options} [options]
   * @returns {Promise<Classifier>}
   * @throws {ModelError} The file is damaged, was not written by cnn-export, or does not keep its contract.
   * @throws {InputError} An option is out of range, or the model has no certified threshold.
   */
  static async open(model, ort, options = {}) {
    const { top = 5, threshold = 0, session: more = {} } = options;
    if (!Number.isInteger(top) || top < 1) throw new InputError(`top must be a whole number of at least 1, not ${top}`);
    if (threshold !== CERTIFIED && !(threshold >= 0 && threshold <= 1)) {
      throw new InputError(`the threshold must be a probability from 0 to 1, or ${CERTIFIED}, not ${threshold}`);
    }
    const spec = readSpec(model);
    if (threshold === CERTIFIED && certifiedThreshold(spec.details) === null) {
      throw new InputError(
        "the model has no certified threshold: export it with cnn-export --max-error 1%, or pass a number as the threshold",
      );
    }
    if (refersToFiles(model)) throw new ModelError("the model refers to another file: export it again");
    let session;
    try {
      session = await ort.InferenceSession.create(withoutOptionalOutputs(model), { ...SESSION_OPTIONS, ...more });
    } catch (error) {
      throw new ModelError(`not an ONNX model, or damaged (${lineOf(error)}); cnn-export writes models`);
    }
    checkContract(session, spec);
    return new Classifier(ort, session, model, options);
  }

  /** Convert a picture file to the model's input; see `toPixels`. */
  pixels(data) {
    return toPixels(data, this.spec, this.#limits);
  }

  /**
   * Run the model on pictures of its size.
   *
   * @param {Uint8Array[]} pictures Each of shape (height, width, channels), as {@link Classifier.pixels} returns it.
   * @returns {Promise<Float32Array[]>} For each picture the probability of each class.
   * @throws {InputError} A picture has another size.
   * @throws {ModelError} ONNX Runtime fails, for example for lack of memory.
   */
  async probabilities(pictures) {
    const { height, width, colour, classes } = this.spec;
    const shape = [height, width, colour === "grey" ? 1 : 3];
    const length = shape[0] * shape[1] * shape[2];
    if (!pictures.length || pictures.some((picture) => picture.length !== length)) {
      throw new InputError(`expected pictures of ${shape.join(" x ")} samples`);
    }
    const batch = new Uint8Array(pictures.length * length);
    pictures.forEach((picture, i) => batch.set(picture, i * length));
    const image = new this.#ort.Tensor("uint8", batch, [pictures.length, ...shape]);
    let found;
    try {
      found = await this.#session.run({ [INPUT]: image }, [PROBABILITIES]);
    } catch (error) {
      const count = pictures.length > 1 ? `${pictures.length} pictures` : "1 picture";
      throw new ModelError(`the model failed on ${count}: ${lineOf(error)}`);
    }
    const { data } = found[PROBABILITIES];
    return pictures.map((_, i) => data.slice(i * classes.length, (i + 1) * classes.length));
  }

  /**
   * Classify a picture file.
   *
   * @param {Uint8Array} data The bytes of the file.
   * @returns {Promise<import("../edgecnn.js").Prediction>}
   * @throws {import("./errors.js").PictureError} The picture is damaged, too large, or of an unsupported kind.
   */
  async predict(data) {
    return this.toPrediction((await this.probabilities([this.pixels(data)]))[0]);
  }

  /** Turn the probabilities of a picture into a prediction; ties go to the lower index. */
  toPrediction(probabilities) {
    const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
    const top = order.slice(0, this.#top).map((i) => ({ label: this.spec.classes[i], probability: probabilities[i] }));
    const [{ label, probability }] = top;
    if (probability < this.#threshold) return { label: UNKNOWN, index: null, probability, top };
    return { label, index: order[0], probability, top };
  }

  /** Free the memory of the session. */
  async release() {
    await this.#session.release();
  }
}

/** Check names, types and shapes of the input and the outputs. */
function checkContract(session, spec) {
  const sizes = (entry) => entry.shape.slice(1).join(" x ");
  const shown = (entry) => `${entry.name}: ${entry.type} ${sizes(entry)}`;
  const { height, width, colour, classes } = spec;
  const wanted = [`${INPUT}: uint8 ${height} x ${width} x ${colour === "grey" ? 1 : 3}`];
  for (const name of [LOGITS, PROBABILITIES]) wanted.push(`${name}: float32 ${classes.length}`);
  const found = [...session.inputMetadata, ...session.outputMetadata].map(shown);
  if (found.join("; ") !== wanted.join("; ")) {
    throw new ModelError(`the model does not keep its own contract: it has ${found.join("; ")}`);
  }
  if (typeof session.inputMetadata[0].shape[0] === "number" && session.inputMetadata[0].shape[0] >= 0) {
    throw new ModelError(`the model does not keep its own contract: its batch size is fixed`);
  }
}
