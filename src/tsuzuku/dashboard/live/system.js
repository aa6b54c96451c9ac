// What the machine is doing: asked for every few seconds, while somebody looks.

import { make, write } from "./elements.js";
import { bytes, fill, percent } from "./format.js";

const PERIOD = 3_000;

export class System {
  constructor(words, server) {
    this.words = words;
    this.server = server;
    this.list = make("dl", { class: "tz-system-list" });
    this.element = make("section", { class: "tz-system", "aria-label": words.system }, [
      make("h2", { class: "tz-heading", text: words.system }),
      this.list,
    ]);
    this.values = new Map();
    this.onSight = () => !document.hidden && this.look();
    document.addEventListener("visibilitychange", this.onSight);
    this.ticking = setInterval(this.onSight, PERIOD);
  }

  close() {
    clearInterval(this.ticking);
    document.removeEventListener("visibilitychange", this.onSight);
  }

  async look() {
    if (this.asking || document.hidden || this.away) return;
    this.asking = true;
    try {
      this.show(await this.server.get("api/system", {}, 5_000));
    } catch {
      // the stream finds out whether the server is away, and says so
    } finally {
      this.asking = false;
    }
  }

  show(system) {
    const { words } = this;
    const of = ({ used, total }) => `${bytes(used)} / ${bytes(total)}`;
    const rows = [
      [words.cpu, percent(system.cpu_percent)],
      [words.memory, of(system.memory)],
      [words.disk_free, bytes(system.disk_free)],
      ...system.gpus.flatMap((gpu, index) => {
        const named = (text) => fill(text, { name: system.gpus.length > 1 ? `${index}` : "" }).trim();
        return [
          [named(words.gpu), percent(gpu.utilization)],
          [named(words.gpu_memory), of({ used: gpu.memory_used, total: gpu.memory_total })],
        ];
      }),
      ...system.workers.flatMap((worker) => {
        const run = system.workers.length > 1 ? worker.run_id : "";
        const named = (text) => fill(text, { run }).trim();
        return [
          [named(words.worker_cpu), percent(worker.cpu_percent)],
          [named(words.worker_memory), bytes(worker.memory)],
        ];
      }),
    ];
    const names = new Set(rows.map(([name]) => name));
    for (const [name, tile] of this.values) {
      if (!names.has(name)) {
        tile.parentElement.remove();
        this.values.delete(name);
      }
    }
    for (const [name, value] of rows) write(this.tile(name), value);
    this.free = system.disk_free;
  }

  tile(name) {
    if (!this.values.has(name)) {
      const value = make("dd", { class: "tz-value" });
      this.values.set(name, value);
      this.list.append(make("div", { class: "tz-tile" }, [make("dt", { text: name }), value]));
    }
    return this.values.get(name);
  }
}
