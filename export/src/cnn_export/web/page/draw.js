/** A drawing in white on black, like the pictures of MNIST. Each change gives a PNG file. */

const PEN = 22;
const STEP = 8;

/**
 * Let the user draw on a canvas.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {(png: Uint8Array) => void} onChange Called after each stroke with the drawing as a PNG file.
 * @returns {() => void} Erases the drawing.
 */
export function drawing(canvas, onChange) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let last = null;
  let cursor = { x: canvas.width / 2, y: canvas.height / 2 };
  let isDown = true;

  const erase = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    cursor = { x: canvas.width / 2, y: canvas.height / 2 };
  };
  const stroke = (from, to) => {
    context.strokeStyle = "#fff";
    context.lineWidth = PEN;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  };
  const changed = () => canvas.toBlob(async (blob) => onChange(new Uint8Array(await blob.arrayBuffer())), "image/png");
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  };

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    stroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (last === null) return;
    const next = place(event);
    stroke(last, next);
    last = next;
  });
  canvas.addEventListener("pointerup", () => {
    last = null;
    changed();
  });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    const move = moves[event.key];
    if (event.key === " ") isDown = !isDown;
    else if (move === undefined) return;
    else {
      const within = (value) => Math.min(canvas.width, Math.max(0, value));
      const next = { x: within(cursor.x + move[0]), y: within(cursor.y + move[1]) };
      if (isDown) stroke(cursor, next);
      cursor = next;
      if (isDown) changed();
    }
    event.preventDefault();
  });
  erase();
  return erase;
}
