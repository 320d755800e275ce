// What is drawn on an image: levels and outlines, noticed regions, and what will be scanned.
import { add, cut, dot, slabNormal, upright } from "/static/geometry.js";

const ASK = "#ffb938", LINE = "#5ccfd0";
const BODY = /^(T\d+|L\d|S1)$/;

export function labels(context, at, maps, pixelRatio) {
  const map = nearest(maps, at.plane);
  if (map) outlines(context, at, map);
  context.font = `600 ${15 * pixelRatio}px Inter, system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const [name, point] of Object.entries(maps.at(-1)?.landmarks ?? {})) {
    if (!BODY.test(name) || Math.abs(at.depth(point)) > 22 || !at.inside(point)) continue;
    const [x, y] = at.toCanvas(point);
    text(context, name, x, y, "#d9f4f4", pixelRatio);
  }
}

// The label plane that lies in an image plane: parallel, and within half a slice.
function nearest(maps, plane) {
  for (const picture of [...maps].reverse()) {
    if (!picture.pixels || Math.abs(dot(picture.directions[2], plane.normal)) < 0.99) continue;
    const off = dot(picture.directions[2], add(plane.centre, picture.position, -1)) / picture.spacing[2];
    const z = Math.round(off + Math.floor(picture.shape[0] / 2));
    if (z >= 0 && z < picture.shape[0]) return { picture, z };
  }
  return null;
}

function outlines(context, at, { picture, z }) {
  const [, rows, columns] = picture.shape;
  picture.outlines ??= new Map();
  if (!picture.outlines.has(z)) picture.outlines.set(z, outlinePath(picture, z));
  const turn = upright(picture), [ox, oy] = at.toCanvas(planePoint(picture, z));
  const s = at.scale, fx = Math.floor(columns / 2) + 0.5, fy = Math.floor(rows / 2) + 0.5;
  const [a, b, c, d] = [...turn.stepX, ...turn.stepY].map((mm) => mm * s);
  context.save();
  context.beginPath();
  context.rect(at.box.x, at.box.y, at.box.width, at.box.height);
  context.clip();
  const path = new Path2D();
  path.addPath(picture.outlines.get(z), new DOMMatrix([a, b, c, d, ox - a * fx - c * fy, oy - b * fx - d * fy]));
  context.strokeStyle = LINE;
  context.globalAlpha = 0.55;
  context.lineWidth = Math.max(1, 0.35 * s);
  context.stroke(path);
  context.restore();
}

const planePoint = (picture, z) => add(picture.position, picture.directions[2], (z - Math.floor(picture.shape[0] / 2)) * picture.spacing[2]);

function outlinePath(picture, z) {
  const [, rows, columns] = picture.shape, first = z * rows * columns, pixels = picture.pixels;
  const label = (x, y) => (x < 0 || y < 0 || x >= columns || y >= rows ? 0 : pixels[first + y * columns + x]);
  const path = new Path2D();
  for (let y = 0; y <= rows; y++) {
    for (let x = 0; x <= columns; x++) {
      const here = label(x, y);
      if (here !== label(x - 1, y)) { path.moveTo(x, y); path.lineTo(x, y + 1); }
      if (here !== label(x, y - 1)) { path.moveTo(x, y); path.lineTo(x + 1, y); }
    }
  }
  return path;
}

export function findings(context, at, list, pixelRatio, named = true) {
  list.forEach((finding, i) => {
    const normal = at.plane.normal, extent = finding.extent_mm;
    const reach = 0.5 * (Math.abs(normal[0]) * extent[0] + Math.abs(normal[1]) * extent[1] + Math.abs(normal[2]) * extent[2]);
    if (Math.abs(at.depth(finding.centre_mm)) > reach + 2.5) return;
    const [x, y] = at.toCanvas(finding.centre_mm);
    const radius = (Math.max(...extent) / 2 + 4) * at.scale;
    context.strokeStyle = "#000a";
    context.lineWidth = 6 * pixelRatio;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
    context.strokeStyle = ASK;
    context.lineWidth = 3 * pixelRatio;
    context.stroke();
    if (named) text(context, String(i + 1), x + 0.75 * radius + 10 * pixelRatio, y - 0.75 * radius - 8 * pixelRatio, ASK, pixelRatio, 18);
  });
}

export function slab(context, at, box, pixelRatio) {
  const { outline, slices } = cut(box, at.plane.centre, at.plane.normal);
  if (!outline.length) return false;
  const trace = (points, close) => {
    context.beginPath();
    points.forEach((point, i) => context[i ? "lineTo" : "moveTo"](...at.toCanvas(point)));
    if (close) context.closePath();
  };
  context.save();
  context.beginPath();
  context.rect(at.box.x, at.box.y, at.box.width, at.box.height);
  context.clip();
  // In an image parallel to the slices a tint would cover everything.
  if (Math.abs(dot(at.plane.normal, slabNormal(box))) < 0.9) {
    trace(outline, true);
    context.fillStyle = "#ffb93824";
    context.fill();
  }
  context.strokeStyle = "#ffb938b0";
  context.lineWidth = pixelRatio;
  for (const line of slices) { trace(line); context.stroke(); }
  trace(outline, true);
  context.strokeStyle = ASK;
  context.lineWidth = 3 * pixelRatio;
  context.stroke();
  context.restore();
  return true;
}

export function cross(context, at, point, pixelRatio) {
  const [x, y] = at.toCanvas(point);
  context.strokeStyle = "#5ccfd0b0";
  context.lineWidth = 1.5 * pixelRatio;
  const gap = 14 * pixelRatio, { box } = at;
  context.beginPath();
  for (const [x0, y0, x1, y1] of [[box.x, y, x - gap, y], [x + gap, y, box.x + box.width, y], [x, box.y, x, y - gap], [x, y + gap, x, box.y + box.height]]) {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }
  context.stroke();
}

function text(context, what, x, y, colour, pixelRatio, size = 15) {
  context.font = `700 ${size * pixelRatio}px Inter, system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 4 * pixelRatio;
  context.lineJoin = "round";
  context.strokeStyle = "#000c";
  context.strokeText(what, x, y);
  context.fillStyle = colour;
  context.fillText(what, x, y);
}
