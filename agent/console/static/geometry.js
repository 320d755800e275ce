// Patient coordinates (LPS, mm) of pixels and of slabs; the same rules as protocols/geometry.py.

export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const add = (a, b, k = 1) => [a[0] + k * b[0], a[1] + k * b[1], a[2] + k * b[2]];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

// The voxel at n // 2 of each axis lies at `position`.
const origin = (picture) => picture.shape.map((n) => Math.floor(n / 2)).reverse();

export function pointOf(picture, x, y, z) {
  const at = [x, y, z], first = origin(picture);
  return [0, 1, 2].reduce((point, axis) => add(point, picture.directions[axis], (at[axis] - first[axis]) * picture.spacing[axis]), picture.position);
}

export function indexOf(picture, point) {
  const from = add(point, picture.position, -1), first = origin(picture);
  return [0, 1, 2].map((axis) => dot(picture.directions[axis], from) / picture.spacing[axis] + first[axis]);
}

// Where patient axes point on the screen, right and down, by the axis through the slice:
// sagittal planes with the front to the left, others with the patient's right to the left.
const SCREEN = [[[0, 1, 0], [0, 0, -1]], [[1, 0, 0], [0, 0, -1]], [[1, 0, 0], [0, 1, 0]]];

export function axisOf(picture) {
  const sizes = picture.directions[2].map(Math.abs);
  return sizes.indexOf(Math.max(...sizes));
}

// How pixels are turned, by quarter turns and flips only, so that the plane looks as usual.
// Returns millimetres on the screen for a step along x and y of the image, and edge letters.
export function upright(picture) {
  const [right, down] = SCREEN[axisOf(picture)];
  const [dx, dy] = picture.directions, [sx, sy] = picture.spacing;
  const turned = Math.abs(dot(dy, right)) > Math.abs(dot(dx, right));
  const [along, across] = turned ? [dy, dx] : [dx, dy];
  const signRight = Math.sign(dot(along, right)) || 1, signDown = Math.sign(dot(across, down)) || 1;
  const stepX = turned ? [0, signDown * sx] : [signRight * sx, 0];
  const stepY = turned ? [signRight * sy, 0] : [0, signDown * sy];
  const toRight = along.map((v) => v * signRight), toDown = across.map((v) => v * signDown);
  return { stepX, stepY, toRight, toDown };
}

export function lettersOf(direction) {
  const sizes = direction.map(Math.abs), axis = sizes.indexOf(Math.max(...sizes));
  return ["RL", "AP", "FH"][axis][direction[axis] > 0 ? 1 : 0];
}
export const opposite = { R: "L", L: "R", A: "P", P: "A", H: "F", F: "H" };

export const slabNormal = (slab) => cross(slab.row, slab.column);

// A slab's box and slices cut by the plane through `point` with `normal`.
// Returns {outline: [point], slices: [[point, point]]}; outline is empty where they do not meet.
export function cut(slab, point, normal) {
  const axes = [slab.row, slab.column, slabNormal(slab)];
  const step = slab.thickness_mm + slab.gap_mm;
  const depth = slab.slices * step - slab.gap_mm;
  const half = [slab.field_of_view_mm[0] / 2, slab.field_of_view_mm[1] / 2, depth / 2];
  const corner = (signs) => signs.reduce((at, sign, axis) => add(at, axes[axis], sign * half[axis]), slab.centre);
  const edges = [];
  for (const axis of [0, 1, 2]) {
    const [p, q] = [0, 1, 2].filter((other) => other !== axis);
    for (const [a, b] of [[-1, -1], [-1, 1], [1, -1], [1, 1]]) {
      const signs = [0, 0, 0];
      signs[p] = a; signs[q] = b; signs[axis] = -1;
      const from = corner(signs);
      signs[axis] = 1;
      edges.push([from, corner(signs)]);
    }
  }
  const outline = around(meet(edges, point, normal), normal);
  const slices = [];
  const stride = Math.max(1, Math.ceil(slab.slices / 32));
  for (let i = 0; i < slab.slices; i += stride) {
    const centre = add(slab.centre, axes[2], (i - (slab.slices - 1) / 2) * step);
    const at = (a, b) => add(add(centre, axes[0], a * half[0]), axes[1], b * half[1]);
    const found = meet([[at(-1, -1), at(1, -1)], [at(1, -1), at(1, 1)], [at(1, 1), at(-1, 1)], [at(-1, 1), at(-1, -1)]], point, normal);
    if (found.length >= 2) slices.push([found[0], found[found.length - 1]]);
  }
  return { outline, slices };
}

function meet(edges, point, normal) {
  const found = [];
  for (const [from, to] of edges) {
    const a = dot(normal, add(from, point, -1)), b = dot(normal, add(to, point, -1));
    if (a === b || a * b > 0) continue;
    const at = add(from, add(to, from, -1), a / (a - b));
    if (!found.some((other) => Math.hypot(...add(other, at, -1)) < 1e-3)) found.push(at);
  }
  return found;
}

// In order around their middle.
function around(points, normal) {
  if (points.length < 3) return [];
  const middle = points.reduce((sum, p) => add(sum, p, 1 / points.length), [0, 0, 0]);
  const first = add(points[0], middle, -1), second = cross(normal, first);
  const angle = (p) => Math.atan2(dot(second, add(p, middle, -1)), dot(first, add(p, middle, -1)));
  return [...points].sort((a, b) => angle(a) - angle(b));
}
