/** Answers on the page: bars of one picture, rows of all, accuracy and confusion where labels are known, CSV. */

import { csvHeader, csvRow } from "./reader/lib/rows.js";
import { at, make, milliseconds, percent } from "./elements.js";

const SHOWN = 200; // rows in the table; the CSV file has all
const CONFUSED = 30; // classes in the table of confusion

/** Draw the most probable classes of a picture. */
export function bars(title, prediction) {
  const box = make("div");
  box.append(make("p", "bars-title", title));
  for (const { label, probability } of prediction.top) {
    const fill = make("div", "fill");
    fill.style.width = percent(probability);
    const track = make("div", "track", fill);
    track.setAttribute("aria-hidden", "true");
    box.append(make("div", "bar", make("span", "name", label), track, make("span", "number", percent(probability))));
  }
  return box;
}

/** All rows so far. */
export class Results {
  #csv = [csvHeader];
  #classes;

  constructor(classes) {
    this.#classes = classes;
    this.clear();
  }

  clear() {
    this.#csv = [csvHeader];
    this.count = 0;
    this.errors = 0;
    this.unanswered = 0;
    this.differ = 0;
    this.times = 0;
    this.labelled = 0;
    this.right = 0;
    this.confusion = new Map(); // counts by true class, then by answer: a model may have 100,000 classes
    at("rows").replaceChildren();
    at("confusion").replaceChildren();
    at("summary").textContent = "";
  }

  /** Add a row; `ms` is the time for decoding, resizing and the model. */
  add(path, prediction, error, ms, truth) {
    this.count++;
    this.#csv.push(csvRow(path, prediction, error));
    if (error === null) this.times += ms;
    else this.errors++;
    this.unanswered += prediction !== null && prediction.index === null;
    if (truth !== null && prediction !== null && prediction.index !== null) this.#count(truth, prediction.index);
    const wrong = truth !== null && prediction !== null && prediction.index !== null && prediction.index !== truth;
    const answer = error ?? (wrong ? `${prediction.label} (${this.#classes[truth]})` : prediction.label);
    const row = make(
      "tr",
      "",
      make("td", "", path),
      make("td", error !== null ? "bad message" : wrong ? "bad" : "", answer),
      make("td", "number", prediction ? percent(prediction.probability) : ""),
      make("td", "number", prediction ? milliseconds(ms) : ""),
    );
    const body = at("rows");
    body.prepend(row);
    if (body.childElementCount > SHOWN) body.lastElementChild.remove();
  }

  #count(truth, answer) {
    this.labelled++;
    this.right += truth === answer;
    const row = this.confusion.get(truth) ?? new Map();
    this.confusion.set(truth, row.set(answer, (row.get(answer) ?? 0) + 1));
  }

  /** Write the summary and the table of confusion. */
  show(total, hasBoth) {
    const { labelled, right } = this;
    const read = this.count - this.errors;
    const parts = [`${this.count.toLocaleString("en")} of ${total.toLocaleString("en")} pictures`];
    if (this.errors) parts.push(`${this.errors.toLocaleString("en")} could not be read`);
    if (this.unanswered) parts.push(`${this.unanswered.toLocaleString("en")} not answered`);
    const labels = this.unanswered ? "answers with a label" : "with a label";
    if (labelled) parts.push(`accuracy ${percent(right / labelled)} of ${labelled.toLocaleString("en")} ${labels}`);
    if (read) parts.push(`${milliseconds(this.times / read)} ms a picture`);
    if (hasBoth) parts.push(`int8 and fp32 differ on ${this.differ.toLocaleString("en")}`);
    at("summary").textContent = parts.join("; ");
    if (labelled) this.#showConfusion();
  }

  #showConfusion() {
    const used = new Set(Array.from(this.confusion, ([truth, row]) => [truth, ...row.keys()]).flat());
    const shown = [...used].sort((a, b) => a - b);
    const box = at("confusion");
    if (shown.length > CONFUSED) {
      box.replaceChildren(make("p", "", `The table of confusion has more than ${CONFUSED} classes and is not shown.`));
      return;
    }
    const heading = (index, scope) => {
      const cell = make("th", scope === "col" ? "number" : "", this.#classes[index]);
      cell.scope = scope;
      return cell;
    };
    const corner = make("td", "", "true class / answer");
    const head = make("tr", "", corner, ...shown.map((index) => heading(index, "col")));
    const rows = shown.map((truth) => {
      const cells = shown.map((index) => {
        const count = this.confusion.get(truth)?.get(index) ?? 0;
        const kind = !count ? "none" : index === truth ? "hit" : "bad";
        return make("td", `number ${kind}`, String(count));
      });
      return make("tr", "", heading(truth, "row"), ...cells);
    });
    const table = make("table", "", make("thead", "", head), make("tbody", "", ...rows));
    const region = make("div", "scroll", table);
    region.tabIndex = 0;
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", "Table of confusion");
    box.replaceChildren(region);
  }

  /** The rows as a CSV file, as cnn-infer --format csv writes them. */
  get csv() {
    return new Blob(this.#csv, { type: "text/csv" });
  }
}
