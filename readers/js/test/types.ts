// Compiled by `npm run types`: the public names have the types that edgecnn.d.ts gives them.
import {
  Classifier,
  InputError,
  loadDecoders,
  ModelError,
  PictureError,
  readMetadata,
  readSpec,
  resample,
  stagesOf,
  toPixels,
  verify,
} from "../edgecnn.js";

export async function label(model: Uint8Array, picture: Uint8Array, ort: unknown, jpeg: ArrayBuffer): Promise<string> {
  await loadDecoders({ jpeg });
  const { width, height, filter } = readSpec(model);
  const classifier = await Classifier.open(model, ort, { top: 3, threshold: 0.5, maxPixels: 1e6 });
  const pixels: Uint8Array = toPixels(picture, classifier.spec);
  const half: Uint8Array = resample(pixels, width, height, 3, width >> 1, height >> 1, filter);
  const decoded: number = stagesOf(picture, classifier.spec).decode.width;
  const [row]: Float32Array[] = await classifier.probabilities([pixels]);
  const { label, index, top } = classifier.toPrediction(row!);
  const { passed, deviations } = await verify(classifier);
  const stage: string | undefined = deviations[0]?.stage;
  const spec: string | undefined = readMetadata(model).get("cnn.spec");
  await classifier.release();
  // @ts-expect-error a classifier is made by Classifier.open
  new Classifier();
  // @ts-expect-error there is no such filter
  resample(pixels, 1, 1, 3, 1, 1, "nearest");
  if (!passed) throw new ModelError(stage ?? "");
  if (index === null) throw new PictureError(spec ?? "");
  if (half.length > decoded) throw new InputError(top[0]!.label);
  return label;
}
