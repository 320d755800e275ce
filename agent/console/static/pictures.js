// The exam's images: pixels are fetched once, in batches, and kept; series are stacks of planes.
import { axisOf, dot, pointOf } from "/static/geometry.js";

const BATCH_MS = 15;
const BATCH = 32;

export class Pictures {
  // changed(series) is called when pixels of a series have come.
  constructor(changed) {
    this.changed = changed;
    this.clear();
  }

  clear() {
    this.series = new Map();
    this.labels = [];
    this.wanted = [];
    this.epoch = (this.epoch ?? 0) + 1;
  }

  add(picture) {
    if (picture.quantity === "labels") this.labels.push(picture);
    else this.stack(picture).add(picture);
    this.wanted.push(picture);
    this.timer ??= setTimeout(() => this.fetch(), BATCH_MS);
  }

  stack(picture) {
    if (!this.series.has(picture.series)) this.series.set(picture.series, new Stack(picture));
    return this.series.get(picture.series);
  }

  async fetch() {
    const epoch = this.epoch, batch = this.wanted.splice(0, BATCH);
    const answer = await fetch(`/api/pictures?of=${batch.map((p) => p.number)}`).catch(() => null);
    if (epoch !== this.epoch) return this.next();
    if (!answer?.ok) {
      this.wanted.unshift(...batch);
      this.timer = setTimeout(() => this.fetch(), 700);
      return;
    }
    const body = await answer.arrayBuffer(), lengths = new DataView(body);
    let at = 0;
    for (const picture of batch) {
      const length = lengths.getUint32(at, true), pixels = body.slice(at + 4, at + 4 + length);
      at += 4 + length;
      picture.missing = length === 0;
      if (length) picture.pixels = picture.dtype === "uint8" ? new Uint8Array(pixels) : new Uint16Array(pixels);
    }
    this.next();
    for (const name of new Set(batch.map((p) => p.series))) this.changed(name);
  }

  next() {
    this.timer = this.wanted.length ? setTimeout(() => this.fetch(), 0) : null;
  }
}

// One series: planes in the order of their position.
export class Stack {
  constructor(picture) {
    this.name = picture.series;
    this.title = picture.title || picture.series;
    this.axis = axisOf(picture);
    this.role = picture.role;
    this.planes = [];
    this.fallback = [];
    this.networks = [];
  }

  add(picture) {
    const normal = picture.directions[2], sign = Math.sign(normal[this.axis]) || 1;
    this.planes = this.planes.filter((plane) => plane.picture.index !== picture.index || plane.picture.shape[0] > 1);
    for (let z = 0; z < picture.shape[0]; z++) {
      const centre = pointOf(picture, picture.shape[2] / 2, picture.shape[1] / 2, z);
      this.planes.push({ picture, z, centre, normal, along: sign * dot(normal, centre) });
    }
    this.planes.sort((a, b) => a.along - b.along);
    this.window ??= [...picture.window];
    if (picture.role !== "acquired") this.role = picture.role;
    this.fallback = picture.fallback.length ? picture.fallback : this.fallback;
    this.networks = picture.networks.length ? picture.networks : this.networks;
  }

  // Index of the plane that is nearest to a point.
  nearest(point) {
    const off = this.planes.map((plane) => Math.abs(dot(plane.normal, point) - dot(plane.normal, plane.centre)));
    return off.indexOf(Math.min(...off));
  }

  get step() {
    const [first, second] = this.planes;
    return second ? Math.abs(second.along - first.along) : first?.picture.spacing[2] ?? 1;
  }
}
