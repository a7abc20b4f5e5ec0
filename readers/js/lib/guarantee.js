/** The certified threshold of a model: below it the model does not answer, so that few of its answers are wrong. */

const SHARES = ["threshold", "max_error", "confidence", "error_bound", "coverage"];
const COUNTS = ["wrong", "answered", "images"]; // in ascending order

/**
 * Return the threshold that `cnn-export --max-error` proved.
 *
 * @param {Readonly<Record<string, any>>} details The `details` of the specification.
 * @returns {number | null} 0 to 1; null if there is none. A damaged entry counts as missing, as in cnn-infer.
 */
export function certifiedThreshold({ guarantee }) {
  if (typeof guarantee !== "object" || guarantee === null) return null;
  const counts = COUNTS.map((name) => guarantee[name]);
  const isShare = (name) => typeof guarantee[name] === "number" && guarantee[name] >= 0 && guarantee[name] <= 1;
  const isAscending = counts.every((count, i) => Number.isInteger(count) && count >= (i ? counts[i - 1] : 0));
  if (!isAscending || !SHARES.every(isShare) || guarantee.error_bound > guarantee.max_error) return null;
  return guarantee.threshold;
}
