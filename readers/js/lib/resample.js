/**
 * Pillow's antialiased resize, in the same arithmetic: weights in float64, rounded to fixed point with 22 bits behind
 * the point; first each row, then each column; 8-bit values in between (Pillow, src/libImaging/Resample.c). Pillow 13
 * begins with the columns of tall pictures; cnn_infer and this reader do not.
 */

const PRECISION_BITS = 22; // 32 bits of the sum - 8 bits of a sample - 2 bits for weights outside of 0 to 1
const HALF = 1 << (PRECISION_BITS - 1);

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

function bicubic(x) {
  const a = -0.5; // the sharpness that Pillow chose
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

function hamming(x) {
  let t = Math.abs(x);
  if (t === 0) return 1;
  if (t >= 1) return 0;
  t *= Math.PI;
  return (Math.sin(t) / t) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(t)); // Pillow's constants are float32
}

/** The weight at a distance from the centre, and the distance from which on it is 0, by the name in `cnn.spec`. */
export const FILTERS = Object.freeze({
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  hamming: { support: 1, weight: hamming },
  bicubic: { support: 2, weight: bicubic },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
});

/**
 * Return the weights of one axis.
 *
 * @param {number} from Samples of the source.
 * @param {number} start Start of the box in the source, a float32.
 * @param {number} end End of the box in the source, a float32.
 * @param {number} to Samples of the result.
 * @param {{support: number, weight: (x: number) => number}} filter
 * @returns {{first: Int32Array, count: Int32Array, weights: Int32Array, stride: number}} For result `i`: its sources
 *   are `first[i]` to `first[i] + count[i] - 1`, their weights stand from `i * stride` on.
 */
function weightsOf(from, start, end, to, filter) {
  const scale = Math.fround(end - start) / to; // Pillow subtracts in float32
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const weights = new Int32Array(to * stride);
  const exact = new Float64Array(stride);
  for (let i = 0; i < to; i++) {
    const centre = start + (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5));
    const number = Math.min(from, Math.trunc(centre + support + 0.5)) - low;
    let sum = 0;
    for (let k = 0; k < number; k++) {
      exact[k] = filter.weight((k + low - centre + 0.5) * (1 / stretch));
      sum += exact[k];
    }
    for (let k = 0; k < number; k++) {
      const share = (sum === 0 ? exact[k] : exact[k] / sum) * (1 << PRECISION_BITS);
      weights[i * stride + k] = Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    }
    first[i] = low;
    count[i] = number;
  }
  return { first, count, weights, stride };
}

const clipped = (sum) => {
  const value = sum >> PRECISION_BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
};

/** Resize the rows `top` to `bottom - 1`; returns these rows only. */
function alongRows(source, width, channels, to, axis, top, bottom) {
  const result = new Uint8Array((bottom - top) * to * channels);
  let out = 0;
  for (let y = top; y < bottom; y++) {
    const row = y * width * channels;
    for (let x = 0; x < to; x++) {
      const number = axis.count[x];
      const at = row + axis.first[x] * channels;
      for (let c = 0; c < channels; c++) {
        let sum = HALF;
        for (let k = 0, w = x * axis.stride, s = at + c; k < number; k++, w++, s += channels) {
          sum += source[s] * axis.weights[w];
        }
        result[out++] = clipped(sum);
      }
    }
  }
  return result;
}

function alongColumns(source, rowLength, to, axis, shift) {
  const result = new Uint8Array(to * rowLength);
  const sums = new Int32Array(rowLength);
  for (let y = 0; y < to; y++) {
    sums.fill(HALF);
    for (let k = 0; k < axis.count[y]; k++) {
      const weight = axis.weights[y * axis.stride + k];
      const row = (axis.first[y] - shift + k) * rowLength;
      for (let x = 0; x < rowLength; x++) sums[x] += source[row + x] * weight;
    }
    const out = y * rowLength;
    for (let x = 0; x < rowLength; x++) result[out + x] = clipped(sums[x]);
  }
  return result;
}

/**
 * Resize a box of a picture.
 *
 * @param {Uint8Array} source Samples, row by row, the channels of a pixel side by side.
 * @param {number} width Width of the source in pixels.
 * @param {number} height Height of the source in pixels.
 * @param {number} channels 1 or 3.
 * @param {number} newWidth Width of the result in pixels.
 * @param {number} newHeight Height of the result in pixels.
 * @param {keyof typeof FILTERS} filter
 * @param {[number, number, number, number]} [box] Left, top, right and bottom in the source, in pixels; the whole
 *   source if left out.
 * @returns {Uint8Array} Samples of the result, in the same order.
 */
export function resample(source, width, height, channels, newWidth, newHeight, filter, box = [0, 0, width, height]) {
  const [left, top, right, bottom] = box.map(Math.fround); // Pillow's box is of float32
  const kernel = FILTERS[filter];
  const down = weightsOf(height, top, bottom, newHeight, kernel);
  const across = weightsOf(width, left, right, newWidth, kernel);
  const first = down.first[0];
  const rows = down.first[newHeight - 1] + down.count[newHeight - 1] - first;
  const isNarrowed = newWidth !== width || left !== 0 || right !== newWidth;
  const isLowered = newHeight !== height || top !== 0 || bottom !== newHeight;
  if (!isNarrowed) return isLowered ? alongColumns(source, width * channels, newHeight, down, 0) : source.slice();
  const pixels = alongRows(source, width, channels, newWidth, across, first, first + rows);
  return isLowered ? alongColumns(pixels, newWidth * channels, newHeight, down, first) : pixels;
}
