// Where the processes are that train a run together: their speed and memory, who is slow, and what
// each prints. Nothing is shown of a run that one process trains.

import { make, show, write } from "./elements.js";
import { NOTHING, bytes, fill, known, pace } from "./format.js";

const PERIOD = 2_000;
const TAIL = 300; // lines of a rank's log
const NEAR = 24; // pixels from the bottom that count as being there
const ACTIVE = new Set(["starting", "running", "stopping", "paused"]);
const COLUMNS = ["rank", "state", "pace", "own", "memory", "gpu", "device", "host", "pid"];
const NUMBERS = new Set(["rank", "pace", "own", "memory", "gpu", "pid"]);

export class Placement {
  /** `ask(path, query)` answers what is below the run's address, null where there is nothing. */
  constructor(words, ask) {
    Object.assign(this, { words, ask, rows: new Map(), status: "idle", away: false, turn: 0 });
    this.build(words);
    this.clear();
    this.ticking = setInterval(() => this.tick(), PERIOD);
  }

  build(words) {
    const heads = COLUMNS.map((name) =>
      make("th", { scope: "col", class: `tz-col-${name}`, text: words[`rank_${name}`] })
    );
    this.summary = make("p", { class: "tz-quiet" });
    this.slow = make("p", { class: "tz-slow", role: "status" });
    this.body = make("tbody");
    this.table = make("table", { class: "tz-table" }, [
      make("thead", {}, [make("tr", {}, heads)]), this.body,
    ]);
    this.choice = make("select", {
      class: "tz-select", "aria-label": words.rank_log_of, on: { change: () => this.read() },
    });
    this.hint = make("span", { class: "tz-quiet", role: "status" });
    this.text = make("pre", {
      class: "tz-last tz-rank-log", tabindex: 0, role: "region", "aria-label": words.rank_log,
    });
    show(this.text, false);
    this.log = make("details", { class: "tz-more", on: { toggle: () => this.read() } }, [
      make("summary", { text: words.rank_log }),
      make("div", { class: "tz-controls" }, [this.choice, this.hint]),
      this.text,
    ]);
    this.element = make("section", { class: "tz-placement", "aria-label": words.placement }, [
      make("h2", { class: "tz-heading", text: words.placement }),
      this.summary,
      this.slow,
      make("div", { class: "tz-wide", tabindex: 0, role: "region", "aria-label": words.placement_table }, [
        this.table,
      ]),
      this.log,
    ]);
  }

  close() {
    clearInterval(this.ticking);
  }

  /** Another run is shown. */
  clear() {
    this.turn++;
    this.placed = false;
    this.rows.clear();
    this.body.replaceChildren();
    this.choice.replaceChildren();
    this.log.open = false;
    this.say("", "");
    show(this.element, false);
  }

  tick() {
    if (!this.placed || !ACTIVE.has(this.status) || this.away || document.hidden) return;
    this.look();
    this.read();
  }

  /** Ask where the ranks are; there are none yet while a training starts, or none any more. */
  async look() {
    if (this.looking === this.turn) return;
    const turn = (this.looking = this.turn);
    const answer = await this.ask("ranks");
    this.looking = null;
    if (answer === null || turn !== this.turn) return;
    const none = answer.ranks.length === 0;
    if (none && this.status === "starting") return; // what is there is the attempt before
    this.placed = answer.launcher !== "local";
    if (!none) this.fill(answer);
    show(this.element, !none);
  }

  fill({ launcher, ranks }) {
    const { words } = this;
    const hosts = new Set(ranks.map((one) => one.host)).size;
    write(this.summary, fill(words.placement_of, { launcher, ranks: ranks.length, hosts }));
    const slow = ranks.filter((one) => one.straggler).map((one) => one.rank).join(", ");
    write(this.slow, slow && fill(words.placement_slow, { ranks: slow }));
    show(this.slow, Boolean(slow) && ranks.some((one) => one.alive));
    this.table.classList.toggle("tz-no-gpu", ranks.every((one) => !known(one.device_memory)));
    this.keep(ranks.map((one) => one.rank));
    for (const one of ranks) this.row(one);
  }

  /** Rows and choices of these ranks; only built anew where there are others. */
  keep(ranks) {
    if (ranks.length === this.rows.size && ranks.every((rank) => this.rows.has(rank))) return;
    const chosen = this.choice.value;
    this.rows = new Map(ranks.map((rank) => [rank, this.rows.get(rank) ?? newRow(rank)]));
    this.body.replaceChildren(...[...this.rows.values()].map(({ row }) => row));
    const named = (rank) => fill(this.words.rank_named, { rank });
    this.choice.replaceChildren(
      ...ranks.map((rank) => make("option", { value: rank, text: named(rank), selected: `${rank}` === chosen }))
    );
  }

  row(one) {
    const { words } = this;
    const { row, cells } = this.rows.get(one.rank);
    const state = one.alive ? words.rank_alive : words.rank_ended;
    row.dataset.straggler = one.straggler;
    write(cells.rank, `${one.rank}`);
    write(cells.state, one.straggler ? `${state} ${words.rank_slow}` : state);
    write(cells.pace, pace(one.batches_per_second));
    write(cells.own, known(one.own_ms) ? `${pace(one.own_ms)} ms` : NOTHING);
    write(cells.memory, bytes(one.memory));
    write(cells.gpu, bytes(one.device_memory));
    write(cells.device, one.device ?? NOTHING);
    write(cells.host, one.host || NOTHING);
    write(cells.pid, one.pid === null ? NOTHING : `${one.pid}`);
  }

  /** Read the chosen rank's log, while somebody looks at it. */
  async read() {
    const rank = this.choice.value;
    if (!this.log.open || rank === "" || this.reading === `${this.turn}/${rank}`) return;
    const reading = (this.reading = `${this.turn}/${rank}`);
    const answer = await this.ask(`ranks/${rank}/log`, { tail: TAIL });
    if (this.reading === reading) this.reading = null;
    if (reading !== `${this.turn}/${this.choice.value}`) return;
    const { words } = this;
    if (answer === null) this.say(words.rank_log_none, "");
    else if (answer.text.trim() === "") this.say(words.rank_log_empty, "");
    else this.say(answer.earlier ? fill(words.rank_log_tail, { lines: TAIL }) : "", answer.text);
  }

  /** Show a log; it stays where its reader is, and follows at its end. */
  say(hint, text) {
    write(this.hint, hint);
    if (this.text.textContent === text) return;
    const left = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight;
    write(this.text, text);
    show(this.text, text !== "");
    if (left < NEAR) this.text.scrollTop = this.text.scrollHeight;
  }
}

function newRow(rank) {
  const cells = Object.fromEntries(
    COLUMNS.map((name) => {
      const kind = `tz-col-${name}${NUMBERS.has(name) ? " tz-number" : ""}`;
      return [name, make(name === "rank" ? "th" : "td", { class: kind, scope: name === "rank" && "row" })];
    })
  );
  return { cells, row: make("tr", { "data-rank": rank }, Object.values(cells)) };
}
