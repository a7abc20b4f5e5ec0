/** A certified threshold that does not hold together counts as missing, as in cnn-infer. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { certifiedThreshold } from "../lib/guarantee.js";

const shares = { threshold: 0.7, max_error: 0.1, confidence: 0.95, error_bound: 0.05, coverage: 0.5 };
const guarantee = { ...shares, wrong: 1, answered: 50, images: 100 };

test("certified thresholds, whole and damaged", () => {
  assert.equal(certifiedThreshold({ guarantee }), 0.7);
  assert.equal(certifiedThreshold({}), null);
  assert.equal(certifiedThreshold({ guarantee: "0.7" }), null);
  for (const damage of [{ threshold: 2 }, { coverage: "0.5" }, { error_bound: 0.2 }, { wrong: 51 }, { images: null }]) {
    assert.equal(certifiedThreshold({ guarantee: { ...guarantee, ...damage } }), null, JSON.stringify(damage));
  }
});
