// One chart: the curves of one quantity, with every resume marked.

import { POINTS, smoothed, spread } from "./curves.js";
import { make, write } from "./elements.js";
import { fill, number } from "./format.js";
import { drawing, marks, reading } from "./figure.js";

const GAP = 250; // ms between two drawings: often enough to look alive
const SUMMARY = 10_000; // ms between two changes of the text that readers hear
let count = 0; // for ids; names of metrics may be anything

const SETTLE = 250; // ms that a zoom has to stand before it is asked for

export class Chart {
  /** `home` is what all charts share: Plotly, words, theme, settings, resumes, `ask(range)`. */
  constructor(home, name, title) {
    Object.assign(this, { home, name, title });
    this.curves = new Map();
    this.tails = new Map(); // key -> [{runId, after, curve}]: what ancestors trained after the branch
    this.details = new Map();
    this.range = null; // the steps that are zoomed to
    this.drawn = 0;
    this.saying = null;
    this.pending = false;
    this.seen = false;
    this.plot = make("div", { class: "tz-plot" });
    this.summary = make("p", { class: "tz-unseen", id: `tz-summary-${++count}` });
    const caption = make("figcaption", { text: title, id: `tz-title-${count}` });
    this.element = make(
      "figure",
      {
        class: "tz-chart",
        role: "group",
        "data-chart": name,
        "aria-labelledby": caption.id,
        "aria-describedby": this.summary.id,
      },
      [caption, this.plot, this.summary]
    );
    this.watchSight();
  }

  watchSight() {
    this.sight = new IntersectionObserver((entries) => {
      this.seen = entries[entries.length - 1].isIntersecting;
      if (this.seen) this.changed();
    }, { rootMargin: "100px" });
    this.sight.observe(this.element);
    this.size = new ResizeObserver(() => {
      if (this.begun && this.plot.clientWidth) this.home.Plotly.Plots.resize(this.plot);
    });
    this.size.observe(this.plot);
  }

  close() {
    clearTimeout(this.settling);
    clearTimeout(this.saying);
    this.closed = true;
    this.sight.disconnect();
    this.size.disconnect();
    if (this.begun) this.home.Plotly.purge(this.plot);
    this.element.remove();
  }

  /** Draw soon; often called, seldom done, and after the first time only where it is seen. */
  changed() {
    const unseen = this.begun && !this.seen;
    if (this.pending || this.closed || unseen || document.hidden || !this.home.Plotly) return;
    const wait = Math.max(0, this.drawn + GAP - performance.now());
    this.pending = true;
    setTimeout(() => {
      requestAnimationFrame(() => {
        this.pending = false;
        if (!this.closed) this.draw();
      });
    }, wait);
  }

  draw() {
    this.drawn = performance.now();
    const { home } = this;
    const curves = [...this.curves].map(([key, curve]) => {
      const shown = curve.with(this.details.get(key));
      const { smoothing, tails } = home.settings;
      const left = (tails && this.tails.get(key)) || [];
      return {
        key,
        ...pick(shown),
        smooth: smoothed(shown.value, smoothing),
        tails: left.map((tail) => tailed(shown, tail, smoothing)),
      };
    });
    const width = this.plot.clientWidth;
    const figure = drawing(home, this.name, curves.map((c) => ({ ...c, band: spread(c) })), width);
    const [from, to] = this.range ?? reach(curves);
    Object.assign(figure.layout, marks(home, from, to, width));
    if (!curves.some(({ step }) => step.length)) blank(figure.layout, home.words.no_values);
    home.Plotly.react(this.plot, figure.data, figure.layout, figure.config);
    if (!this.begun) {
      this.begun = true;
      this.plot.on("plotly_relayout", (change) => this.zoomed(change));
    }
    this.say();
  }

  /** The text in place of the picture. */
  say() {
    if (this.saying) return; // soon, and with what has come by then
    const { words } = this.home;
    const lines = [...this.curves].flatMap(([key, curve]) => {
      const found = curve.summary();
      if (!found) return [];
      const values = { last: number(found.last), low: number(found.low), high: number(found.high) };
      return [fill(words.chart_summary, { name: reading(words, key), step: found.at, ...values })];
    });
    write(this.summary, lines.join(" ") || words.no_values);
    if (!lines.length) return; // the first values are said at once
    this.saying = setTimeout(() => {
      this.saying = null;
      this.say();
    }, SUMMARY);
  }

  /** Somebody has zoomed: what is in sight is asked for in full. */
  zoomed(change) {
    if (change["xaxis.autorange"] || change["xaxis.showspikes"] === false) {
      this.range = null;
      this.details.clear();
      this.changed();
      return;
    }
    const from = change["xaxis.range[0]"] ?? change["xaxis.range"]?.[0];
    const to = change["xaxis.range[1]"] ?? change["xaxis.range"]?.[1];
    if (from === undefined || to === undefined) return;
    this.range = [from, to];
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.refine(), SETTLE);
  }

  /** Ask for the zoomed part, where the server has more of it than is drawn. */
  async refine() {
    if (this.closed || !this.range) return;
    const [from, to] = this.range;
    const keys = [...this.curves].filter(([, curve]) => curve.width > 1).map(([key]) => key);
    if (!keys.length) return;
    const first = Math.max(0, Math.floor(from));
    const query = { keys: keys.join(","), points: POINTS };
    const found = await this.home.ask({ ...query, from_step: first, to_step: Math.ceil(to) });
    if (!found || this.closed || this.range?.[0] !== from || this.range[1] !== to) return;
    this.details = new Map(Object.entries(found.curves));
    this.changed();
  }
}

/** A tail that begins at the curve's last point before the branch, so that nothing lies between. */
export function tailed(shown, { runId, after, curve }, weight) {
  const first = shown.step.findIndex((at) => at > after);
  const common = first < 0 ? shown.step.length : first;
  const from = Math.max(0, common - 1);
  const join = (name) => [...shown[name].slice(0, common), ...curve[name]];
  return { runId, step: join("step").slice(from), value: smoothed(join("value"), weight).slice(from) };
}

function pick({ step, value, min, max }) {
  return { step, value, min, max };
}

function reach(curves) {
  const steps = curves.flatMap(({ step }) => (step.length ? [step[0], step[step.length - 1]] : []));
  return steps.length ? [Math.min(...steps), Math.max(...steps)] : [0, 1];
}

/** A chart without values has no numbers on its axes, which would mean nothing. */
function blank(layout, text) {
  layout.xaxis.visible = layout.yaxis.visible = false;
  layout.annotations = [{ text, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }];
}
