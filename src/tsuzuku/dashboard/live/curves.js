// A curve that never grows beyond bounds: buckets as the server answers them, and live ones.

export const POINTS = 1_000; // asked of the server, about two for each pixel column of a chart
const MOST = 2 * POINTS;

export class Curve {
  constructor() {
    this.clear();
  }

  clear() {
    this.step = [];
    this.value = [];
    this.min = [];
    this.max = [];
    this.live = { from: 0, sum: 0, count: 0 }; // the bucket that is being filled
    this.width = 1; // steps in a bucket
    this.reached = -1; // the last step that is in it
  }

  get length() {
    return this.step.length;
  }

  /** Whether the server would draw it in fewer buckets. */
  get full() {
    return this.length > MOST;
  }

  /** Take the server's curve; what has come live since it was read stays. */
  load({ step, value, min, max }) {
    const tail = this.step.findIndex((at) => at > (step.length ? step[step.length - 1] : -1));
    const live = tail < 0 ? null : ["step", "value", "min", "max"].map((n) => this[n].slice(tail));
    const reached = this.reached;
    this.clear();
    Object.assign(this, { step: [...step], value: [...value], min: [...min], max: [...max] });
    if (step.length) {
      const raw = step.length < 2 || value.every((v, i) => min[i] === v && max[i] === v);
      const range = step[step.length - 1] - step[0];
      this.width = raw ? 1 : Math.max(1, Math.ceil(range / step.length));
      this.reached = step[step.length - 1];
    }
    if (live) {
      live.forEach((values, i) => this[["step", "value", "min", "max"][i]].push(...values));
      this.reached = Math.max(this.reached, reached);
    }
  }

  /** Add a point. A step that has been there is the same value again: a resumed run repeats it. */
  add(step, value) {
    if (step <= this.reached) return;
    this.reached = step;
    const live = this.live;
    const last = this.length - 1;
    if (live.count && Math.floor(step / this.width) === Math.floor(live.from / this.width)) {
      if (value !== null) {
        live.sum += value;
        live.count += 1;
        this.value[last] = live.sum / live.count;
        this.min[last] = Math.min(this.min[last], value);
        this.max[last] = Math.max(this.max[last], value);
      }
      return;
    }
    this.live = { from: step, sum: value ?? 0, count: value === null ? 0 : 1 };
    this.step.push(step);
    this.value.push(value);
    this.min.push(value);
    this.max.push(value);
    if (this.length > 2 * MOST) this.halve();
  }

  /** Join buckets in pairs: where the server could not be asked, it stays bounded all the same. */
  halve() {
    const pairs = Array.from({ length: Math.ceil(this.length / 2) }, (_, i) => [2 * i, 2 * i + 1]);
    const join = (values, how) =>
      pairs.map(([a, b]) => {
        if (b >= values.length || values[b] === null) return values[a];
        return values[a] === null ? values[b] : how(values[a], values[b]);
      });
    this.value = join(this.value, (a, b) => (a + b) / 2);
    this.min = join(this.min, Math.min);
    this.max = join(this.max, Math.max);
    this.step = pairs.map(([a]) => this.step[a]);
    this.width *= 2;
    this.live.count = 0;
  }

  /** The curve with `detail`, a finer one of part of it, in that part's place. */
  with(detail) {
    if (!detail || !detail.step.length) return this;
    const from = detail.step[0];
    const to = detail.step[detail.step.length - 1];
    const before = this.step.filter((at) => at < from).length;
    const after = this.step.findIndex((at) => at > to);
    const joined = {};
    for (const name of ["step", "value", "min", "max"]) {
      const rest = after < 0 ? [] : this[name].slice(after);
      joined[name] = [...this[name].slice(0, before), ...detail[name], ...rest];
    }
    return joined;
  }

  /** Newest, smallest and largest value. */
  summary() {
    let [low, high, last, at] = [Infinity, -Infinity, null, null];
    for (let i = 0; i < this.length; i++) {
      if (this.value[i] === null) continue;
      low = Math.min(low, this.min[i]);
      high = Math.max(high, this.max[i]);
      [last, at] = [this.value[i], this.step[i]];
    }
    return last === null ? null : { low, high, last, at };
  }
}

/** Exponential moving average, without the pull towards zero at its beginning; 0 changes nothing. */
export function smoothed(values, weight) {
  if (!weight) return values;
  let [sum, norm] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = sum * weight + (1 - weight) * value;
    norm = norm * weight + (1 - weight);
    return sum / norm;
  });
}

/** Whether any bucket holds values that differ. */
export function spread({ min, max }) {
  return min.some((low, i) => low !== null && low < max[i]);
}
