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
    this.differ = 0;
    this.times = 0;
    this.confusion = this.#classes.map(() => this.#classes.map(() => 0));
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
    if (truth !== null && prediction !== null && prediction.index !== null) this.confusion[truth][prediction.index]++;
    const wrong = truth !== null && prediction !== null && prediction.index !== truth;
    const answer = error ?? (wrong ? `${prediction.label} (${this.#classes[truth]})` : prediction.label);
    const row = make(
      "tr",
      "",
      make("td", "", path),
      make("td", error !== null || wrong ? "bad" : "", answer),
      make("td", "number", prediction ? percent(prediction.probability) : ""),
      make("td", "number", prediction ? milliseconds(ms) : ""),
    );
    const body = at("rows");
    body.prepend(row);
    if (body.childElementCount > SHOWN) body.lastElementChild.remove();
  }

  /** Write the summary and the table of confusion. */
  show(total, hasBoth) {
    const labelled = this.confusion.flat().reduce((sum, count) => sum + count, 0);
    const right = this.confusion.reduce((sum, row, index) => sum + row[index], 0);
    const read = this.count - this.errors;
    const parts = [`${this.count.toLocaleString("en")} of ${total.toLocaleString("en")} pictures`];
    if (this.errors) parts.push(`${this.errors.toLocaleString("en")} could not be read`);
    if (labelled) parts.push(`accuracy ${percent(right / labelled)} of ${labelled.toLocaleString("en")} with a label`);
    if (read) parts.push(`${milliseconds(this.times / read)} ms a picture`);
    if (hasBoth) parts.push(`int8 and fp32 differ on ${this.differ.toLocaleString("en")}`);
    at("summary").textContent = parts.join("; ");
    if (labelled) this.#showConfusion();
  }

  #showConfusion() {
    const used = this.#classes.map((_, i) => this.confusion[i].some(Boolean) || this.confusion.some((row) => row[i]));
    const shown = [...used.keys()].filter((index) => used[index]);
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
        const count = this.confusion[truth][index];
        return make("td", count && index !== truth ? "number bad" : "number", String(count));
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
