/** Which files in a folder are pictures, by their names: the rule of cnn-infer. For Node and for browsers. */

const EXTENSIONS = /.\.(jpe?g|jpe|jfif|png|webp|bmp|gif|tiff?|avif|hei[cf])$/;
/** Files and folders that systems and tools create, in lower case. */
const SYSTEM_NAMES = new Set([
  "$recycle.bin",
  "desktop.ini",
  "ehthumbs.db",
  "system volume information",
  "thumbs.db",
  "__macosx",
  "icon\r",
  "lost+found",
  "lost.dir",
  "#recycle",
  "#snapshot",
  "@eadir",
  "@recycle",
  "@tmp",
  "__pycache__",
]);

/**
 * Whether a file or folder is hidden or made by a system: it is never searched.
 *
 * @param {string} name
 */
export const isSystemName = (name) => name.startsWith(".") || SYSTEM_NAMES.has(name.toLowerCase());

/**
 * Whether a file in a folder counts as a picture. The content, not the name, selects the decoder.
 *
 * @param {string} name
 */
export const isPictureName = (name) => EXTENSIONS.test(name.toLowerCase());
