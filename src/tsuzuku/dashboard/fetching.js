// Downloads and makings under way, as the server's event stream tells of them.

const SILENCE = 10_000; // ms without a word until the server is asked whether it still goes on
const AGAIN = 1_000; // ms until a lost connection is made again

const views = new WeakMap();

export default function (component) {
  const { parentElement, data } = component;
  let view = views.get(parentElement);
  if (!view) {
    view = new View(parentElement, data);
    views.set(parentElement, view);
  }
  view.update(component, data);
  return () => {
    view.close();
    views.delete(parentElement);
  };
}

class View {
  constructor(root, data) {
    this.list = root.querySelector("ul");
    this.rows = new Map();
    this.last = data.since;
    this.heard = Date.now();
    this.watch = setInterval(() => this.check(), SILENCE / 2);
  }

  update(component, data) {
    this.data = data;
    this.end = (name, error) => component.setTriggerValue("ended", { name, error, at: Date.now() });
    for (const [name, row] of this.rows) {
      if (!data.names.includes(name)) {
        row.item.remove();
        this.rows.delete(name);
      }
    }
    for (const name of data.names) if (!this.rows.has(name)) this.add(name, data.known[name]);
    if (!this.socket) this.connect();
  }

  close() {
    this.closed = true;
    clearInterval(this.watch);
    clearTimeout(this.later);
    this.socket?.close();
  }

  add(name, payload) {
    const item = document.createElement("li");
    const text = document.createElement("span");
    const bar = document.createElement("progress");
    bar.setAttribute("aria-label", name);
    item.append(text, bar);
    item.dataset.name = name;
    this.list.append(item);
    this.rows.set(name, { item, text, bar });
    if (payload) this.show(name, payload);
    else text.textContent = this.data.words.starting.replace("{name}", name);
  }

  show(name, payload) {
    const { text, bar } = this.rows.get(name);
    const bytes = payload.total_bytes != null;
    const [done, total] = bytes
      ? [payload.done_bytes, payload.total_bytes]
      : [payload.made, payload.total];
    text.textContent = payload.message ?? name;
    if (total > 0) {
      bar.max = total;
      bar.value = done;
      const size = bytes ? `${megabytes(done)} / ${megabytes(total)} MB` : `${done} / ${total}`;
      text.textContent += ` · ${size}`;
    }
  }

  /** The server has this very page, unless Python knows it elsewhere. */
  url(path) {
    const server = this.data.server;
    return new URL(path, new URL(server ? `${server}/` : ".", document.location));
  }

  connect() {
    const url = this.url("ws");
    url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams({ since: this.last, batch: true });
    if (this.data.token) url.searchParams.set("token", this.data.token);
    this.socket = new WebSocket(url);
    this.socket.onmessage = (message) => JSON.parse(message.data).forEach((e) => this.hear(e));
    this.socket.onclose = () => {
      if (!this.closed) this.later = setTimeout(() => this.connect(), AGAIN);
    };
  }

  hear(event) {
    this.last = event.seq;
    const name = event.payload.dataset;
    if (!this.rows.has(name)) return;
    this.heard = Date.now();
    if (event.type === "error") this.end(name, event.payload.message);
    else if (event.payload.done) this.end(name, null);
    else this.show(name, event.payload);
  }

  /** A process that was killed says nothing; the server knows that it is gone. */
  async check() {
    if (Date.now() - this.heard < SILENCE) return;
    const headers = this.data.token ? { Authorization: `Bearer ${this.data.token}` } : {};
    try {
      const answer = await fetch(this.url("api/datasets?details=false"), { headers });
      const { downloading, making } = await answer.json();
      for (const name of this.rows.keys()) {
        if (![...downloading, ...making].includes(name)) this.end(name, undefined);
      }
    } catch {
      // the server is away; it is asked again
    }
  }
}

function megabytes(bytes) {
  return (bytes / 1e6).toFixed(1);
}
