// The row of numbers above the charts, and the bar.

import { make, write } from "./elements.js";
import { NOTHING, count, fill, known, number, pace, rate, span } from "./format.js";

const ICONS = {
  idle: "💤", starting: "⏳", running: "🏃", stopping: "🛑", stopped: "⏹️",
  completed: "✅", failed: "❌", crashed: "💥", paused: "⏸️",
};
const TILES = ["epoch", "step", "origin", "status", "loss", "learning_rate", "speed", "eta"];

export class Numbers {
  constructor(words) {
    this.words = words;
    this.values = {};
    const tiles = TILES.map((name) => {
      this.values[name] = make("dd", { class: "tz-value", "data-number": name, text: NOTHING });
      return make("div", { class: `tz-tile tz-tile-${name}` }, [
        make("dt", { text: words[`number_${name}`] }),
        this.values[name],
      ]);
    });
    this.message = make("p", { class: "tz-message", "data-part": "message" });
    this.fill = make("div", { class: "tz-bar-fill" });
    this.bar = make(
      "div",
      {
        class: "tz-bar", role: "progressbar", "aria-label": words.progress,
        "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0,
      },
      [this.fill]
    );
    this.share = make("span", { class: "tz-share", text: "0.0 %" });
    this.element = make("section", { "aria-label": words.numbers }, [
      make("dl", { class: "tz-tiles" }, tiles),
      make("div", { class: "tz-bar-row" }, [this.bar, this.share]),
      this.message,
    ]);
  }

  /** Show a progress and a status; `origin` says where the newest attempt went on from. */
  show(progress, status, message, origin) {
    const { words, values } = this;
    write(values.epoch, of(progress.epoch, progress.epochs));
    write(values.step, of(progress.step, progress.steps));
    write(values.origin, origin || NOTHING);
    const speed = pace(progress.speed);
    write(values.speed, speed === NOTHING ? NOTHING : fill(words.per_second, { speed }));
    write(values.eta, span(progress.eta, words));
    write(values.loss, number(progress.loss));
    write(values.learning_rate, rate(progress.rate));
    write(values.status, `${ICONS[status] ?? ""} ${words[`status_${status}`] ?? status}`.trim());
    values.status.dataset.status = status;
    write(this.message, message);
    const share = 100 * Math.min(1, Math.max(0, progress.share || 0));
    const text = `${share.toFixed(1)} %`;
    if (this.share.textContent !== text) {
      write(this.share, text);
      this.fill.style.transform = `scaleX(${share / 100})`;
      this.bar.setAttribute("aria-valuenow", share.toFixed(1));
      this.bar.setAttribute("aria-valuetext", text);
    }
  }
}

function of(part, whole) {
  return known(part) && known(whole) && whole > 0 ? `${count(part)}/${count(whole)}` : NOTHING;
}
