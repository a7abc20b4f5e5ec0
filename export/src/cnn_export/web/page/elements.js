/** Elements of the page. Text only ever becomes text: names of classes and files are never markup. */

export const at = (id) => document.getElementById(id);

/** Make an element with a class and children: elements, or text. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

export const percent = (share) => `${(100 * share).toFixed(1)}%`;

export const milliseconds = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(1));

export const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(2)} MiB`;

/** The text of an error in one line. */
export const lineOf = (error) => String(error?.message ?? error).replace(/\s+/g, " ").trim();
