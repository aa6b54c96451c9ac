// The events as they come: each once and in order, whatever happens to the connection.

import { Refused } from "./server.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 8_000;
const TICK = 5_000;
const ASLEEP = 20_000; // a tick this late: the machine slept, or the tab was frozen
const SILENT = 15_000; // after so long without a word it is asked whether there is one

export class Stream {
  /**
   * `begin(head)` brings the page to event number `head` at least; `take(events)` gets what comes
   * after it. More than `replay` missed events are not replayed: `begin` is called again.
   * `told(state)` hears "here", "away" or "locked".
   */
  constructor(server, { begin, take, told }, replay = 5_000) {
    Object.assign(this, { server, begin, take, told, replay });
    this.since = null;
    this.closed = false;
    this.pause = FIRST_PAUSE;
    this.heard = Date.now();
    this.ticked = Date.now();
    this.drop = () => {}; // ends the connection there is
    this.wake = () => {}; // ends a pause
    this.onSight = () => this.look();
    document.addEventListener("visibilitychange", this.onSight);
    window.addEventListener("online", this.onSight);
    this.ticking = setInterval(() => this.look(), TICK);
  }

  /** Runs until it is closed. */
  async run() {
    while (!this.closed) {
      try {
        await this.catchUp();
        await this.follow();
      } catch (error) {
        if (this.closed) return;
        this.told(error instanceof Refused && error.status === 401 ? "locked" : "away");
        await this.rest();
      }
    }
  }

  close() {
    this.closed = true;
    clearInterval(this.ticking);
    document.removeEventListener("visibilitychange", this.onSight);
    window.removeEventListener("online", this.onSight);
    this.drop();
    this.wake();
  }

  /** Forget where it was: the page is brought up to date from the beginning. */
  restart() {
    this.since = null;
    this.again = true;
    this.drop();
  }

  async catchUp() {
    const head = await this.server.head();
    // numbers grow; smaller ones are those of a table that was made anew
    if (this.since === null || head < this.since || head - this.since > this.replay) {
      do {
        this.again = false;
        await this.begin(head);
      } while (this.again && !this.closed);
      this.since = head;
    }
  }

  /** Resolves when the connection has ended after it had been open, rejects when it never was. */
  follow() {
    return new Promise((resolve, reject) => {
      let opened = false;
      const socket = this.server.socket({ since: this.since, batch: true });
      const end = () => {
        socket.onmessage = socket.onclose = socket.onopen = null;
        this.drop = () => {};
        if (opened) resolve();
        else reject(new Error("no connection"));
      };
      this.drop = () => {
        end(); // a dead connection may take minutes to say that it is closed
        socket.close();
      };
      socket.onopen = () => {
        opened = true;
        this.pause = FIRST_PAUSE;
        this.heard = Date.now();
        this.told("here");
      };
      socket.onclose = end;
      socket.onmessage = (message) => this.receive(JSON.parse(message.data));
    });
  }

  receive(events) {
    this.heard = Date.now();
    const fresh = events.filter((event) => event.seq > this.since);
    if (!fresh.length) return;
    this.since = fresh[fresh.length - 1].seq;
    this.take(fresh);
  }

  /** Whether the connection is still one; a machine that slept is not told that it is not. */
  async look() {
    const now = Date.now();
    const late = now - this.ticked > ASLEEP;
    this.ticked = now;
    if (document.hidden) return;
    this.wake();
    if (late) {
      this.drop();
    } else if (now - this.heard > SILENT && this.since !== null) {
      this.heard = now;
      await this.probe();
    }
  }

  async probe() {
    const drop = this.drop;
    const head = await this.server.head().catch(() => null);
    const behind = head !== null && head > this.since;
    if (head === null) drop();
    else if (behind) setTimeout(() => this.since < head && this.drop === drop && drop(), 2_000);
  }

  rest() {
    const pause = this.pause * (0.8 + 0.4 * Math.random()); // many pages do not come back as one
    this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      this.wake = () => {
        clearTimeout(timer);
        this.wake = () => {};
        resolve();
      };
    });
  }
}
