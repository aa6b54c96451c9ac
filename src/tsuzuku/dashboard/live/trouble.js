// When things go wrong: the server is away, the disk is full, the training has crashed.

import { make, show, write } from "./elements.js";
import { bytes, fill } from "./format.js";

const MOMENT = 800; // ms in which a connection may be lost and found without a word

/** The banner that comes when the server is away, and goes by itself. */
export class Banner {
  constructor(words) {
    this.words = words;
    this.text = make("span");
    this.again = make("a", { href: "", text: words.log_in });
    this.element = make("div", { class: "tz-banner", role: "alert" }, [
      make("span", { text: "🔌", "aria-hidden": "true" }), this.text, this.again,
    ]);
    show(this.element, false);
  }

  /** "here", "away" or "locked". */
  tell(state) {
    clearTimeout(this.coming);
    if (state === "here") {
      show(this.element, false);
    } else if (this.element.hidden) {
      this.coming = setTimeout(() => this.say(state), MOMENT);
    } else {
      this.say(state);
    }
  }

  say(state) {
    show(this.again, state === "locked");
    write(this.text, this.words[state]);
    show(this.element, true);
  }

  close() {
    clearTimeout(this.coming);
  }
}

/** The panel of a run that has ended badly, or waits for something. */
export class Trouble {
  /** `resume()` is what its button does. */
  constructor(words, resume) {
    this.words = words;
    this.title = make("h2", { class: "tz-heading" });
    this.meaning = make("p");
    this.text = make("p");
    this.hint = make("p", { class: "tz-quiet" });
    this.last = make("pre", { class: "tz-last", tabindex: 0, "aria-label": words.last_lines });
    this.button = make("button", {
      type: "button", class: "tz-button tz-main", text: words.resume,
      on: { click: () => this.pressed(resume) },
    });
    this.element = make("section", { class: "tz-trouble", role: "alert" }, [
      this.title, this.meaning, this.text, this.last, this.hint, this.button,
    ]);
    this.clear();
  }

  clear() {
    this.forget();
    show(this.element, false);
  }

  forget() {
    [this.error, this.code, this.words_last] = ["", "", ""];
  }

  pressed(resume) {
    this.button.disabled = true; // until the status changes, or for long enough to try again
    setTimeout(() => (this.button.disabled = false), 4_000);
    resume();
  }

  /** Remember what events say about an end that may come. */
  take({ type, payload }) {
    if (type === "error") {
      [this.error, this.code] = [String(payload.message ?? ""), String(payload.code ?? "")];
    }
    if (type === "log" && payload.level === "error") this.words_last = String(payload.message ?? "");
    if (type === "status" && payload.status === "starting") this.forget();
  }

  show(status, message, free) {
    const bad = status === "crashed" || status === "failed";
    show(this.element, bad || status === "paused");
    if (!bad && status !== "paused") return;
    const { words } = this;
    this.element.dataset.status = status;
    write(this.title, words[`trouble_${status}`]);
    const why = status === "failed" ? this.error || message : message || this.error;
    write(this.text, why);
    // what the worker says is English and names what it is about; this is what it means
    const code = status === "paused" ? "disk_full" : why === this.error ? this.code : "";
    const meaning = words.errors[code] ?? "";
    write(this.meaning, meaning);
    show(this.meaning, Boolean(meaning));
    const last = bad && this.words_last !== why ? this.words_last : "";
    write(this.last, last);
    show(this.last, Boolean(last));
    const waits = fill(words.paused_hint, { free: bytes(free) });
    write(this.hint, status === "paused" ? waits : words[`${status}_hint`]);
    show(this.button, bad);
  }
}
