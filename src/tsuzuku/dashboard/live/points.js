// What an event says for curves; the same as `tsuzuku.core.projection` says of it in Python.

const POSITION = new Set(["epoch", "total_epochs", "step", "total_steps", "global_step"]);

/** `{step, values: {key: number or null}}`, or null for an event that brings no points. */
export function pointsOf(event) {
  const payload = event.payload;
  const step = payload.global_step;
  if (event.type !== "progress" && event.type !== "validation_result") return null;
  if (!Number.isInteger(step)) return null;
  const values = {};
  for (const [key, value] of Object.entries(payload)) {
    if (!POSITION.has(key) && typeof value === "number") values[key] = value;
  }
  for (const [key, value] of Object.entries(payload.metrics ?? {})) {
    if (typeof value === "number") values[`train_${key}`] = value;
  }
  return { step, values };
}

/** The chart that a metric belongs to. */
export function chartOf(key) {
  return key.replace(/^(train|val)_/, "");
}

/** One of many that another metric sums up, `correlation/jawOpen`, has no chart of its own. */
export const isDetail = (key) => key.includes("/");

/** "train" or "validation"; what validation measures keeps its own name. */
export function sideOf(key) {
  if (key.startsWith("train_") || ["loss", ...OF_TRAINING].includes(key)) return "train";
  return "validation";
}

/** Metrics of the training itself rather than of the model. */
export const OF_TRAINING = ["learning_rate", "grad_norm", "samples_per_second"];
