// Where a training went on from, in the words of the page: "Epoch 3".

import { count } from "./format.js";

export class Origins {
  /** `ask(path, query)` answers, or is null. */
  constructor(ask) {
    this.ask = ask;
    this.names = new Map(); // "run/checkpoint" -> {epoch, global_step}
  }

  /** Look up the checkpoints that these runs went on from, as far as they are still there. */
  async learn(origins) {
    const unknown = origins.filter((origin) => origin && !this.names.has(origin));
    const runs = new Set(unknown.map((origin) => origin.slice(0, origin.lastIndexOf("/"))));
    for (const run_id of runs) {
      const found = await this.ask("api/checkpoints", { run_id });
      for (const one of found?.checkpoints ?? []) this.names.set(`${run_id}/${one.name}`, one);
    }
  }

  /** `step` and `steps` (of an epoch) tell it of a checkpoint that is gone. */
  label(origin, step, steps) {
    if (!origin) return "";
    const known = this.names.get(origin);
    const at = known ? known.global_step : step;
    const epoch = known ? known.epoch : Math.floor(at / steps);
    if (!(epoch >= 0) || (!known && !(at > 0))) return at > 0 ? `Step ${count(at)}` : last(origin);
    // in the middle of an epoch, or at its end
    return steps > 0 && at % steps !== 0 ? `Epoch ${epoch} (Step ${count(at)})` : `Epoch ${epoch}`;
  }
}

function last(origin) {
  return origin.slice(origin.lastIndexOf("/") + 1);
}
