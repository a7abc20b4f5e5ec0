/** How a picture becomes the model's input, and what the model's outputs mean: `cnn.spec` of the model contract. */
export interface Spec {
  readonly classes: readonly string[];
  readonly height: number;
  readonly width: number;
  readonly colour: "grey" | "rgb";
  readonly resize: "squash" | "crop" | "pad";
  readonly filter: Filter;
  readonly zero_point: number;
  readonly scale: number;
  readonly temperature: number;
  readonly profiles: "ignored";
  readonly details: Readonly<Record<string, any>>;
}

export type Filter = "bilinear" | "bicubic" | "lanczos" | "box" | "hamming";

/** A decoded picture. Samples stand row by row, the channels of a pixel side by side. */
export interface Picture {
  mode: "1" | "L" | "LA" | "RGB" | "RGBA" | "P" | "CMYK" | "I;16";
  width: number;
  height: number;
  data: Uint8Array | Uint16Array;
}

/** Pictures beyond a limit are refused before they are decoded. */
export interface Limits {
  /** Largest picture, width x height; 100 million by default. */
  maxPixels?: number;
  /** Largest file in bytes; 400 million by default. */
  maxBytes?: number;
}

export interface Options extends Limits {
  /** Classes in `Prediction.top`; 5 by default. */
  top?: number;
  /**
   * The label is `unknown` if the highest probability is below this value, 0 to 1; 0 by default. `certified`: the
   * threshold that cnn-export --max-error proved.
   */
  threshold?: number | "certified";
  /** Further options of ONNX Runtime's session. */
  session?: Record<string, unknown>;
}

export interface Prediction {
  /** The most probable class, or `unknown`. */
  label: string;
  /** Its index in `spec.classes`; null if the label is `unknown`. */
  index: number | null;
  /** The probability of the most probable class, 0 to 1, also if the label is `unknown`. */
  probability: number;
  /** The most probable classes, the most probable first. */
  top: { label: string; probability: number }[];
}

export type Stage = "decode" | "orientation" | "colour" | "resize" | "graph" | "probabilities";

export interface Verification {
  passed: boolean;
  /** Largest accepted difference of a probability. */
  tolerance: number;
  /** For each stage: pictures that were compared, those that agree, and the largest difference of a probability. */
  stages: { stage: Stage; compared: number; agreed: number; worst: number | null }[];
  /** The pictures that differ, each with the first stage that does. */
  deviations: {
    picture: string;
    stage: Stage;
    /** Largest and mean difference: of sampled pixels, 0 to 255, or of a probability. */
    largest: number | null;
    mean: number | null;
    /** The largest difference of a probability that follows. */
    effect: number | null;
    reason: string;
  }[];
}

/** A picture that cannot be turned into pixels. */
export class PictureError extends Error {}
/** A model that cannot be used. */
export class ModelError extends Error {}
/** A wrong argument. */
export class InputError extends Error {}

/** An open model. */
export class Classifier {
  private constructor();
  readonly spec: Spec;
  readonly metadata: Map<string, string>;
  /** Open a model; `ort` is the module onnxruntime-web or onnxruntime-node. */
  static open(model: Uint8Array, ort: any, options?: Options): Promise<Classifier>;
  /** Convert a picture file to the model's input. */
  pixels(data: Uint8Array): Uint8Array;
  /** Run the model on pictures of its size; returns the probability of each class for each picture. */
  probabilities(pictures: Uint8Array[]): Promise<Float32Array[]>;
  /** Classify a picture file. */
  predict(data: Uint8Array): Promise<Prediction>;
  /** Turn the probabilities of a picture into a prediction; ties go to the lower index. */
  toPrediction(probabilities: Float32Array): Prediction;
  /** Free the memory of the session. */
  release(): Promise<void>;
}

/** Compile the decoders: the bytes of jpeg-turbo.wasm (@cwasm/jpeg-turbo) and of webp.wasm (@cwasm/webp). */
export function loadDecoders(sources: { jpeg?: BufferSource; webp?: BufferSource }): Promise<void>;
/** Convert a picture file to the model's input: samples of shape (height, width, channels). */
export function toPixels(data: Uint8Array, spec: Spec, limits?: Limits): Uint8Array;
/** Return the picture after each of the four stages of the contract. */
export function stagesOf(
  data: Uint8Array,
  spec: Spec,
  limits?: Limits,
): Record<"decode" | "orientation" | "colour" | "resize", Picture>;
/** Resize a box of a picture as Pillow does: first each row, then each column. */
export function resample(
  source: Uint8Array,
  width: number,
  height: number,
  channels: number,
  newWidth: number,
  newHeight: number,
  filter: Filter,
  box?: [left: number, top: number, right: number, bottom: number],
): Uint8Array;
/** Return the specification of a model. */
export function readSpec(model: Uint8Array): Spec;
/** Return all metadata of an ONNX file. */
export function readMetadata(model: Uint8Array): Map<string, string>;
/** Replay the pictures inside the model, stage by stage. */
export function verify(classifier: Classifier): Promise<Verification>;
