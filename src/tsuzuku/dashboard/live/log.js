// The log: newest at the bottom, as long as its reader stays there.

import { make, remember, remembered, show, write } from "./elements.js";
import { clock, count, fill } from "./format.js";
import { gravity, lineOf } from "./lines.js";

const MOST = 3_000; // lines that are kept
const MOST_ASKED = 12_000; // with those that the reader has asked for
const EARLIER = 500;
const NEAR = 24; // pixels from the bottom that count as being there

export class Log {
  /** `earlier(before, limit)` answers a page of the run's log. */
  constructor(words, earlier) {
    Object.assign(this, { words, earlier, lines: [], waiting: [], following: true, most: MOST });
    this.level = remembered("level", 0);
    this.search = "";
    this.build(words);
  }

  build(words) {
    this.rows = make("div", {
      class: "tz-rows", role: "log", "aria-live": "off", "aria-label": words.log, tabindex: 0,
      on: { scroll: () => this.scrolled() },
    });
    const names = ["level_all", "level_info", "level_warning", "level_error"];
    const options = names.map((name, level) =>
      make("option", { value: level, text: words[name], selected: level === this.level })
    );
    const level = make("select", {
      "aria-label": words.level, class: "tz-select",
      on: { change: (event) => this.filter({ level: Number(event.target.value) }) },
    }, options);
    const search = make("input", {
      type: "search", class: "tz-search", placeholder: words.search, "aria-label": words.search,
      on: { input: (event) => this.filter({ search: event.target.value.trim().toLowerCase() }) },
    });
    this.shown = make("span", { class: "tz-quiet", role: "status" });
    this.older = make("button", {
      type: "button", class: "tz-button tz-older", text: words.earlier,
      on: { click: () => this.loadEarlier() },
    });
    this.newer = make("button", {
      type: "button", class: "tz-button tz-newer", text: words.newest,
      on: { click: () => this.follow() },
    });
    show(this.older, false);
    show(this.newer, false);
    this.element = make("section", { class: "tz-log" }, [
      make("h2", { class: "tz-heading", text: words.log }),
      make("div", { class: "tz-controls" }, [level, search, this.shown]),
      make("div", { class: "tz-window" }, [this.older, this.rows, this.newer]),
    ]);
  }

  clear() {
    this.lines = [];
    this.waiting = [];
    this.most = MOST;
    this.following = true;
    this.rows.replaceChildren();
    show(this.older, false);
    show(this.newer, false);
  }

  /** Take the newest page; what came live meanwhile stays, and nothing is there twice. */
  load({ events, earlier }) {
    const last = events.length ? events[events.length - 1].seq : 0;
    const newer = [...this.lines, ...this.waiting].filter((line) => line.seq > last);
    this.lines = [...this.read(events), ...newer];
    this.waiting = [];
    show(this.older, earlier);
    this.redraw();
  }

  take(events) {
    this.waiting.push(...this.read(events));
    if (this.waiting.length > MOST) this.waiting.splice(0, this.waiting.length - MOST);
    this.later ??= setTimeout(() => {
      this.later = null;
      this.append();
    }, 100);
  }

  async loadEarlier() {
    const first = this.lines[0]?.seq;
    if (!first || this.loading) return;
    this.loading = true;
    const page = await this.earlier(first, EARLIER);
    this.loading = false;
    if (!page || this.lines[0]?.seq !== first) return;
    const height = this.rows.scrollHeight - this.rows.scrollTop;
    this.following = false;
    this.lines.unshift(...this.read(page.events));
    this.most = Math.min(MOST_ASKED, Math.max(this.most, this.lines.length + EARLIER));
    show(this.older, page.earlier && this.lines.length < MOST_ASKED);
    this.redraw();
    this.rows.scrollTop = this.rows.scrollHeight - height; // the same line stays under the eye
  }

  read(events) {
    return events.map((event) => lineOf(event, this.words)).filter(Boolean);
  }

  filter(wish) {
    Object.assign(this, wish);
    remember("level", this.level);
    this.redraw();
    if (this.following) this.rows.scrollTop = this.rows.scrollHeight;
  }

  fits({ level, text }) {
    const high = this.level === 0 || gravity(level) >= this.level;
    return high && (!this.search || text.toLowerCase().includes(this.search));
  }

  redraw() {
    const kept = this.lines.filter((line) => this.fits(line));
    this.rows.replaceChildren(...kept.map(row));
    this.settle();
  }

  append() {
    const fresh = this.waiting;
    this.waiting = [];
    const last = this.lines[this.lines.length - 1]?.seq ?? 0;
    if (fresh.some((line) => line.seq <= last)) {
      this.insert(fresh);
      return;
    }
    this.lines.push(...fresh);
    this.rows.append(...fresh.filter((line) => this.fits(line)).map(row));
    if (this.lines.length > this.most) {
      const gone = this.lines.splice(0, this.lines.length - this.most);
      const kept = this.lines[0].seq;
      while (this.rows.firstChild && Number(this.rows.firstChild.dataset.seq) < kept) {
        this.rows.firstChild.remove();
      }
      show(this.older, gone.length > 0);
    }
    this.settle();
    show(this.newer, !this.following && fresh.length + !this.newer.hidden > 0);
  }

  /** The page that was loaded may be newer than where the events go on from: what comes with them
   * may be there, or belong before its end. */
  insert(lines) {
    const known = new Set(this.lines.map((line) => line.seq));
    this.lines.push(...lines.filter((line) => !known.has(line.seq)));
    this.lines.sort((a, b) => a.seq - b.seq);
    this.redraw();
    show(this.newer, !this.following);
  }

  settle() {
    if (this.following) this.rows.scrollTop = this.rows.scrollHeight;
    const lines = count(this.rows.childElementCount);
    write(this.shown, fill(this.words.lines_shown, { shown: lines, lines: count(this.lines.length) }));
  }

  scrolled() {
    const left = this.rows.scrollHeight - this.rows.scrollTop - this.rows.clientHeight;
    this.following = left < NEAR;
    if (this.following) show(this.newer, false);
  }

  follow() {
    this.following = true;
    this.rows.scrollTop = this.rows.scrollHeight;
    show(this.newer, false);
    this.rows.focus({ preventScroll: true });
  }

  close() {
    clearTimeout(this.later);
  }
}

function row({ seq, time, level, text }) {
  return make("div", { class: `tz-row tz-${level}`, "data-seq": seq, "data-level": level }, [
    make("time", { text: clock(time) }),
    make("span", { class: "tz-level", text: level.toUpperCase() }),
    make("span", { class: "tz-text", text }),
  ]);
}
