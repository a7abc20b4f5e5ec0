/** The errors that the reader throws on purpose. Each message is one line for people. */

/** A picture that cannot be turned into pixels. */
export class PictureError extends Error {
  name = "PictureError";
}

/** A model that cannot be used: damaged, or not written by cnn-export. */
export class ModelError extends Error {
  name = "ModelError";
}

/** A wrong argument. */
export class InputError extends Error {
  name = "InputError";
}

/**
 * Return the message of anything that was thrown, as one line.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function lineOf(error) {
  return (
    String(error?.message ?? error)
      .split(/\s+/)
      .filter(Boolean)
      .join(" ")
      .slice(0, 200) || "unknown error"
  );
}
