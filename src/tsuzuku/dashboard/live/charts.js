// All charts of a run: which there are, and what is in them.

import { Chart } from "./chart.js";
import { Curve, POINTS } from "./curves.js";
import { make, remember, remembered, show } from "./elements.js";
import { chartOf, isDetail, pointsOf } from "./points.js";
import { theme } from "./theme.js";

const FIRST = ["loss", "learning_rate"];
const LAST = ["grad_norm", "samples_per_second"]; // of interest to few, so folded away
const RELOAD = 5_000; // ms between two times that grown curves are asked for anew

export class Charts {
  /** `ask(query)` answers the run's metrics, or null where they cannot be had. */
  constructor(words, ask) {
    this.home = { words, ask, Plotly: null, runId: null, resumes: [], theme: {}, settings: null };
    this.home.settings = {
      smoothing: remembered("smoothing", 0), log: remembered("log", false), tails: remembered("tails", true),
    };
    this.ask = ask;
    this.charts = new Map();
    this.curves = new Map();
    this.reloaded = 0;
    this.grid = make("div", { class: "tz-charts" });
    this.rest = make("div", { class: "tz-charts" });
    this.more = make("details", { class: "tz-more" }, [
      make("summary", { text: words.more_charts }),
      this.rest,
    ]);
    show(this.more, false);
    this.element = make("section", { "aria-label": words.charts }, [
      this.controls(words),
      this.grid,
      this.more,
    ]);
    this.onSight = () => this.changed();
    document.addEventListener("visibilitychange", this.onSight);
    this.clear(null);
  }

  controls(words) {
    const { settings } = this.home;
    const shown = make("output", { text: settings.smoothing.toFixed(2) });
    const slider = make("input", {
      type: "range", min: 0, max: 0.99, step: 0.01, value: settings.smoothing, class: "tz-slider",
      on: {
        input: (event) => {
          this.set("smoothing", Number(event.target.value));
          shown.textContent = this.home.settings.smoothing.toFixed(2);
        },
      },
    });
    const log = make("input", {
      type: "checkbox", checked: settings.log,
      on: { change: (event) => this.set("log", event.target.checked) },
    });
    const tails = make("input", {
      type: "checkbox", checked: settings.tails,
      on: { change: (event) => this.set("tails", event.target.checked) },
    });
    this.tailsSwitch = make("label", {}, [tails, make("span", { text: words.show_tails })]);
    return make("div", { class: "tz-controls" }, [
      make("label", {}, [make("span", { text: words.smoothing }), slider, shown]),
      make("label", {}, [log, make("span", { text: words.log_scale })]),
      this.tailsSwitch,
    ]);
  }

  set(name, value) {
    this.home.settings[name] = value;
    remember(name, value);
    this.changed();
  }

  /** Another run: nothing of the last one is left but what the visitor has set. */
  clear(runId) {
    for (const chart of this.charts.values()) chart.close();
    this.charts.clear();
    this.curves.clear();
    this.home.runId = runId;
    this.home.resumes = [];
    for (const name of FIRST) this.chart(name);
    show(this.more, false);
    show(this.tailsSwitch, false);
  }

  close() {
    document.removeEventListener("visibilitychange", this.onSight);
    for (const chart of this.charts.values()) chart.close();
  }

  useTheme(element) {
    const now = theme(element);
    if (JSON.stringify(now) === JSON.stringify(this.home.theme)) return;
    this.home.theme = now;
    this.changed();
  }

  usePlotly(Plotly) {
    this.home.Plotly = Plotly;
    this.changed();
  }

  /** Bring the server's curves in; `label(resume)` says where each resume went on from. */
  load(metrics, label) {
    for (const [key, curve] of Object.entries(metrics.curves)) {
      if (!isDetail(key)) this.curve(key).load(curve);
    }
    this.home.resumes = metrics.resumes.map((one) => {
      const branch = !one.resumed_from.startsWith(`${one.run_id}/`);
      return { step: one.step, label: label(one), branch };
    });
    this.loadTails(metrics.tails ?? {});
    this.changed();
  }

  /** What the runs that this one descends from trained after it had branched off. */
  loadTails(tails) {
    for (const chart of this.charts.values()) chart.tails.clear();
    for (const [key, found] of Object.entries(tails)) {
      if (isDetail(key)) continue;
      const each = found.map((one) => {
        const curve = new Curve();
        curve.load(one);
        return { runId: one.run_id, after: one.after, curve };
      });
      this.chart(chartOf(key)).tails.set(key, each);
    }
    show(this.tailsSwitch, Object.keys(tails).length > 0);
  }

  /** An event of another run: if that one was left behind, its tail grows. */
  takeTail(event) {
    const points = pointsOf(event);
    if (!points) return;
    for (const [key, value] of Object.entries(points.values)) {
      const chart = this.charts.get(chartOf(key));
      const tail = chart?.tails.get(key)?.find((one) => one.runId === event.run_id);
      if (!tail) continue;
      tail.curve.add(points.step, value);
      chart.changed();
    }
  }

  /** Draw in what an event brings. */
  take(event) {
    const points = pointsOf(event);
    if (!points) return;
    for (const [key, value] of Object.entries(points.values)) {
      if (isDetail(key)) continue;
      this.curve(key).add(points.step, value);
      this.charts.get(chartOf(key)).changed();
    }
    this.condense();
  }

  /** Curves that have grown are asked for in fewer buckets, which is seldom: they have to double. */
  async condense() {
    const keys = [...this.curves].filter(([, curve]) => curve.full).map(([key]) => key);
    if (!keys.length || performance.now() - this.reloaded < RELOAD) return;
    this.reloaded = performance.now();
    const runId = this.home.runId;
    const found = await this.ask({ keys: keys.join(","), points: POINTS });
    if (!found || runId !== this.home.runId) return;
    for (const [key, curve] of Object.entries(found.curves)) this.curve(key).load(curve);
    this.changed();
  }

  changed() {
    for (const chart of this.charts.values()) chart.changed();
  }

  curve(key) {
    if (!this.curves.has(key)) {
      this.curves.set(key, new Curve());
      this.chart(chartOf(key)).curves.set(key, this.curves.get(key));
    }
    return this.curves.get(key);
  }

  chart(name) {
    if (!this.charts.has(name)) {
      const title = this.home.words[`chart_${name}`] ?? name;
      const chart = new Chart(this.home, name, title);
      this.charts.set(name, chart);
      this.place(chart);
    }
    return this.charts.get(name);
  }

  place(chart) {
    const rare = LAST.includes(chart.name);
    const parent = rare ? this.rest : this.grid;
    if (rare) show(this.more, true);
    const after = [...parent.children].find(
      (other) => !FIRST.includes(other.dataset.chart) && other.dataset.chart > chart.name
    );
    parent.insertBefore(chart.element, FIRST.includes(chart.name) ? null : after ?? null);
  }
}
