// The server's address, and how it is asked.

const BEYOND = 10 ** 15; // a number that no event has

/** An answer that is a refusal. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `HTTP ${status}`);
    this.status = status;
  }
}

export class Server {
  /** `base` is empty where the server has this very page; else its address, with its token. */
  constructor(base, token) {
    this.base = new URL(base ? `${base.replace(/\/$/, "")}/` : ".", document.location);
    this.token = token || null;
  }

  get elsewhere() {
    return this.base.origin !== document.location.origin;
  }

  url(path, query = {}) {
    const url = new URL(path, this.base);
    url.search = new URLSearchParams(
      Object.entries(query).filter(([, value]) => value !== null && value !== undefined)
    );
    return url;
  }

  async fetch(url, patience) {
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const answer = await fetch(url, { headers, signal: AbortSignal.timeout(patience) });
    if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})));
    return answer;
  }

  async get(path, query, patience = 20_000) {
    return (await this.fetch(this.url(path, query), patience)).json();
  }

  /** The number of the newest event. */
  async head(patience = 5_000) {
    return (await this.get("api/events", { after: BEYOND, limit: 1 }, patience)).next;
  }

  socket(query) {
    const url = this.url("ws", { ...query, token: this.token });
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return new WebSocket(url);
  }
}
