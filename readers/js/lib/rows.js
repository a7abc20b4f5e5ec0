/** Rows as CSV, byte for byte as `cnn-infer --format csv` writes them. */

const DIGITS = 6; // of a probability
const HEADER = ["path", "label", "index", "probability", "top", "error"];

/** Round to {@link DIGITS} digits, halves to even, and write the number as Python does. */
export function probabilityText(value) {
  let text = value.toFixed(DIGITS);
  const tie = value * 128; // the only values with a tie at six digits are odd multiples of 1/128
  if (Number.isInteger(tie) && tie % 2 === 1 && Number(text[text.length - 1]) % 2 === 1) {
    text = ((Math.round(value * 10 ** DIGITS) - 1) / 10 ** DIGITS).toFixed(DIGITS);
  }
  const rounded = Number(text);
  if (Number.isNaN(value)) return "nan";
  if (Number.isInteger(rounded)) return `${rounded}.0`;
  if (rounded >= 1e-4) return String(rounded);
  const [mantissa, exponent] = rounded.toExponential().split("e-");
  return `${mantissa}e-${exponent.padStart(2, "0")}`;
}

const field = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const line = (fields) => `${fields.map((value) => field(String(value ?? ""))).join(",")}\n`;

/** The first line of the file. */
export const csvHeader = line(HEADER);

/**
 * Return the row of a picture.
 *
 * @param {string} path
 * @param {import("../edgecnn.js").Prediction | null} found
 * @param {string | null} error Why the picture could not be read.
 */
export function csvRow(path, found, error) {
  if (found === null) return line([path, null, null, null, null, error]);
  const top = found.top.map(
    ({ label, probability }) => `{"label": ${JSON.stringify(label)}, "probability": ${probabilityText(probability)}}`,
  );
  return line([path, found.label, found.index, probabilityText(found.probability), `[${top.join(", ")}]`, null]);
}
