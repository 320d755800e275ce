// Planes onto a canvas: grey values in the browser, turned as radiologists look at them.
import { dot, indexOf, upright } from "/static/geometry.js";

const scratch = document.createElement("canvas");

// Draws a plane into `context`, and returns how patient points come onto the canvas.
// box: {x, y, width, height} in canvas pixels; view: {centre: point, mm} shows a cut-out.
export function draw(context, plane, window, box, view) {
  const { picture, z } = plane, [, rows, columns] = picture.shape;
  const turn = upright(picture);
  const width = Math.abs(turn.stepX[0] * columns + turn.stepY[0] * rows);
  const height = Math.abs(turn.stepX[1] * columns + turn.stepY[1] * rows);
  const scale = view ? Math.min(box.width, box.height) / view.mm : Math.min(box.width / width, box.height / height);
  const [mx, my] = view ? indexOf(picture, view.centre).map((v) => v + 0.5) : [columns / 2, rows / 2];
  const [a, b, c, d] = [...turn.stepX, ...turn.stepY].map((mm) => mm * scale);
  const e = box.x + box.width / 2 - a * mx - c * my, f = box.y + box.height / 2 - b * mx - d * my;
  context.save();
  context.beginPath();
  context.rect(box.x, box.y, box.width, box.height);
  context.clip();
  context.fillStyle = "#000";
  context.fillRect(box.x, box.y, box.width, box.height);
  if (picture.pixels) {
    context.imageSmoothingQuality = "high";
    context.transform(a, b, c, d, e, f);
    context.drawImage(grey(picture, z, window), 0, 0);
  }
  context.restore();
  return {
    scale, box, plane,
    toCanvas: (point) => {
      const [x, y] = indexOf(picture, point).map((v) => v + 0.5);
      return [a * x + c * y + e, b * x + d * y + f];
    },
    toIndex: (px, py) => {
      const det = a * d - b * c, u = px - e, v = py - f;
      return [(d * u - c * v) / det - 0.5, (a * v - b * u) / det - 0.5];
    },
    inside: (point) => {
      const [x, y] = indexOf(picture, point);
      return x > 0 && y > 0 && x < columns && y < rows;
    },
    depth: (point) => dot(plane.normal, point) - dot(plane.normal, plane.centre),
  };
}

function grey(picture, z, [centre, width]) {
  const [, rows, columns] = picture.shape, count = rows * columns, first = z * count;
  if (scratch.width !== columns || scratch.height !== rows) { scratch.width = columns; scratch.height = rows; }
  const context = scratch.getContext("2d");
  const image = context.createImageData(columns, rows), out = new Uint32Array(image.data.buffer);
  const low = (centre - width / 2) / picture.slope, gain = 255 * picture.slope / width, pixels = picture.pixels;
  for (let i = 0; i < count; i++) {
    let value = (pixels[first + i] - low) * gain;
    value = value < 0 ? 0 : value > 255 ? 255 : value | 0;
    out[i] = 0xff000000 | (value << 16) | (value << 8) | value;
  }
  context.putImageData(image, 0, 0);
  return scratch;
}
