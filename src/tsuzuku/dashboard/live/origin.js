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
    const within = steps > 0 && at % steps !== 0; // it was saved in the middle of an epoch
    if (known) return within ? `Epoch ${known.epoch} (Step ${count(at)})` : `Epoch ${known.epoch}`;
    if (at > 0) return steps > 0 && !within ? `Epoch ${at / steps}` : `Step ${count(at)}`;
    return origin.slice(origin.lastIndexOf("/") + 1);
  }
}
