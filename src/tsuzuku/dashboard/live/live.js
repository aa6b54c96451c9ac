// The live part of the main page: what Streamlit calls, and what puts the parts together.

import { Charts } from "./charts.js";
import { POINTS } from "./curves.js";
import { make, show } from "./elements.js";
import { Log } from "./log.js";
import { Numbers } from "./numbers.js";
import { Origins } from "./origin.js";
import { Placement } from "./placement.js";
import { plotly } from "./plotly.js";
import { Progress } from "./progress.js";
import { Server } from "./server.js";
import { Stream } from "./stream.js";
import { System } from "./system.js";
import { Banner, Trouble } from "./trouble.js";

const NEWEST = 400; // lines of the log that are there at once
const ENDED = new Set(["stopped", "completed", "failed", "crashed"]);
const GRACE = 300; // ms in which Streamlit may call again before all is taken down

const lives = new WeakMap();

/** Streamlit calls this when it mounts the component, and again whenever its data changes. */
export default function live(component) {
  const { data, parentElement } = component;
  const was = lives.get(parentElement);
  let one = was;
  if (!was || was.closed || was.language !== data.language || was.address !== data.server) {
    was?.close();
    one = new Live(data, parentElement);
    lives.set(parentElement, one);
  }
  one.update(component);
  const turn = ++one.turn;
  // What an outdated call returned may be called after a newer one has been made.
  return () => setTimeout(() => one.turn === turn && one.close(), GRACE);
}

class Live {
  constructor(data, parent) {
    Object.assign(this, { words: data.words, language: data.language, address: data.server });
    this.turn = 0;
    this.closed = false;
    this.chosen = data.run_id ?? null;
    this.runId = null;
    this.status = "idle";
    this.message = "";
    this.origin = null;
    this.server = new Server(data.server, data.token);
    this.build(parent, data.words);
    this.loadPlotly(data.plotly);
    this.stream = new Stream(this.server, {
      begin: (head) => this.begin(head),
      take: (events) => this.take(events),
      told: (state) => this.told(state),
    });
    this.stream.run();
  }

  build(parent, words) {
    this.progress = new Progress();
    this.origins = new Origins((path, query) => this.ask(path, query));
    this.banner = new Banner(words);
    this.trouble = new Trouble(words, () => this.component.setTriggerValue("resume", this.runId));
    this.numbers = new Numbers(words);
    this.charts = new Charts(words, (query) => this.metrics(query));
    this.system = new System(words, this.server);
    this.log = new Log(words, (before, limit) => this.ask(this.logPath(), { before, limit }));
    const below = (path) => `api/runs/${encodeURIComponent(this.runId)}/${path}`;
    this.placement = new Placement(words, (path, query) => this.ask(below(path), query));
    this.run = make("div", { class: "tz-run" }, [
      this.trouble.element, this.numbers.element, this.charts.element, this.placement.element,
      this.log.element,
    ]);
    this.element = make("div", { class: "tz-live", "data-state": "loading" }, [
      this.banner.element, this.run, this.system.element,
    ]);
    show(this.run, false);
    parent.append(this.element);
  }

  loadPlotly(version) {
    plotly(this.server, version)
      .then((Plotly) => this.charts.usePlotly(Plotly))
      .catch(() => this.closed || setTimeout(() => this.loadPlotly(version), 3_000));
  }

  update(component) {
    this.component = component;
    this.toldPython = component.data.known ?? this.toldPython;
    this.charts.useTheme(this.element);
    this.element.dataset.theme = this.charts.home.theme.dark ? "dark" : "light";
    // It may have asked before the last event that is known here; later than that it is told.
    clearTimeout(this.telling);
    this.telling = setTimeout(() => this.runId !== null && this.tellPython(), 1_500);
    const chosen = component.data.run_id ?? null;
    if (chosen !== this.chosen) {
      this.chosen = chosen;
      this.stream.restart();
    }
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.stream.close();
    for (const part of [this.charts, this.system, this.placement, this.log, this.banner]) part.close();
    this.element.remove();
  }

  told(state) {
    this.banner.tell(state);
    this.system.away = this.placement.away = state !== "here";
    this.element.dataset.connection = state;
    if (state === "here") this.system.look();
  }

  // Asking

  /** An answer, or null where there is none: the stream finds out why. */
  async ask(path, query) {
    try {
      return await this.server.get(path, query);
    } catch {
      return null;
    }
  }

  logPath() {
    return `api/runs/${encodeURIComponent(this.runId)}/log`;
  }

  metrics(query) {
    return this.ask(`api/runs/${encodeURIComponent(this.runId)}/metrics`, query);
  }

  /** Bring the page to the newest state; raises where the server is away. */
  async begin() {
    const nothing = { run_id: null, status: "idle", message: "", resumed_from: null };
    const gone = (error) => {
      if (error.status === 404) return nothing; // the run that was chosen is not there any more
      throw error;
    };
    await this.open(await this.server.get("api/status", { run_id: this.chosen }).catch(gone));
  }

  async open(status) {
    const runId = status.run_id;
    if (runId !== this.runId) {
      this.runId = runId;
      this.charts.clear(runId);
      this.log.clear();
      this.placement.clear();
      this.progress.clear();
      this.trouble.clear();
    }
    Object.assign(this, { status: status.status, message: status.message });
    this.origin = status.resumed_from;
    show(this.run, runId !== null);
    if (runId === null) {
      this.element.dataset.state = "idle";
      this.tellPython();
      return;
    }
    const path = `api/runs/${encodeURIComponent(runId)}`;
    const [progress, metrics, said] = await Promise.all([
      this.server.get("api/progress", { run_id: runId }),
      this.server.get(`${path}/metrics`, { points: POINTS, tails: true }),
      this.server.get(`${path}/log`, { limit: NEWEST }),
    ]);
    if (this.closed || runId !== this.runId) return;
    this.progress.load(progress);
    if (!progress.is_training) this.progress.pause();
    said.events.forEach((event) => this.trouble.take(event));
    this.log.load(said);
    await this.draw(metrics);
    this.element.dataset.state = "ready";
    this.element.dataset.run = runId;
    this.showNumbers();
    this.placement.look();
    this.tellPython();
  }

  /** Curves with every resume marked; how each is named has to be looked up. */
  async draw(metrics) {
    const runId = this.runId;
    const origins = metrics.resumes.map((one) => one.resumed_from);
    await this.origins.learn([...origins, this.origin]);
    if (this.closed || runId !== this.runId) return;
    const { steps } = this.progress;
    this.lastResume = metrics.resumes[metrics.resumes.length - 1] ?? null;
    this.charts.load(metrics, (one) => this.origins.label(one.resumed_from, one.step, steps));
  }

  // What happens

  take(events) {
    const own = events.filter((event) => event.run_id === this.runId || event.run_id === null);
    for (const event of events) {
      const begins = event.type === "status" && event.payload.status === "starting";
      if (begins && event.run_id !== this.runId && this.chosen === null) {
        this.switchTo(event.run_id);
        return; // what follows is in the snapshot, or comes after it
      }
    }
    for (const event of own) this.happen(event);
    for (const event of events) if (event.run_id !== this.runId) this.charts.takeTail(event);
    this.log.take(own);
    this.showNumbers();
  }

  happen(event) {
    if (event.run_id === null) return; // a line of the log, no more
    this.trouble.take(event);
    if (event.type === "progress") {
      this.progress.take(event);
      // its worker had said so before, unless that line was missed
      if (this.status === "starting") this.status = "running";
    }
    if (event.type === "status") this.turned(event.payload);
    this.charts.take(event);
  }

  turned({ status, message }) {
    Object.assign(this, { status, message: message ?? "" });
    if (status === "starting" || status === "running" || ENDED.has(status)) this.refresh();
    if (status === "completed") this.progress.complete();
    else if (status !== "running" && status !== "stopping") this.progress.pause();
    this.tellPython();
  }

  /** An attempt has begun or ended: where it went on from, and curves without a seam. */
  async refresh() {
    const runId = this.runId;
    const [status, metrics] = await Promise.all([
      this.ask("api/status", { run_id: runId }),
      this.metrics({ points: POINTS, tails: true }),
    ]);
    if (!status || !metrics || this.closed || runId !== this.runId) return;
    this.origin = status.resumed_from;
    this.placement.look();
    await this.draw(metrics);
    this.showNumbers();
  }

  /** Another training has begun: the page follows it. */
  switchTo(runId) {
    this.stream.restart();
    this.element.dataset.next = runId;
  }

  showNumbers() {
    if (this.runId === null || this.closed) return;
    const at = this.lastResume?.resumed_from === this.origin ? this.lastResume.step : 0;
    const origin = this.origins.label(this.origin, at, this.progress.steps);
    const { status, message } = this;
    this.trouble.show(status, message, this.system.free);
    const said = this.trouble.element.hidden ? message : ""; // once is enough
    this.numbers.show(this.progress, status, said, origin);
    this.placement.status = status;
    this.element.dataset.status = status;
  }

  /** Python is told what it has to know to draw the rest of the page anew, and only when new. */
  tellPython() {
    const now = { status: this.status, run_id: this.runId };
    const same = (was) => was && was.status === now.status && was.run_id === now.run_id;
    if (same(this.toldPython) || this.closed) return;
    this.toldPython = now;
    this.component.setStateValue("status", now);
  }
}
