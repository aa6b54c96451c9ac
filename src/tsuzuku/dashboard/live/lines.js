// What events say in the log, as sentences.

import { fill, number } from "./format.js";

const LEVELS = ["debug", "info", "warning", "error"];
/** Metrics of one thing among many, `correlation/jawOpen`, are stored and not told. */
const isShown = (key) => key !== "epoch" && key !== "global_step" && !key.includes("/");
const GRAVE = new Set(["failed", "crashed"]);

/** How grave a level is; one that is not known is taken for information. */
export function gravity(level) {
  const found = LEVELS.indexOf(level);
  return found < 0 ? 1 : found;
}

/** `{seq, time, level, text}` of an event, or null for one that the log does not show. */
export function lineOf(event, words) {
  const { type, payload, seq, time } = event;
  const line = (level, text) => ({ seq, time, level, text });
  if (type === "log") return line(payload.level ?? "info", String(payload.message ?? ""));
  if (type === "error") return line("error", String(payload.message ?? payload.code ?? ""));
  if (type === "checkpoint") {
    const template = payload.is_best ? words.line_best : words.line_checkpoint;
    return line("info", fill(template, { name: payload.name }));
  }
  if (type === "status") {
    const status = words[`status_${payload.status}`] ?? payload.status;
    const text = fill(words.line_status, { status });
    const level = GRAVE.has(payload.status) ? "error" : payload.status === "paused" ? "warning" : "info";
    return line(level, payload.message ? `${text} ${payload.message}` : text);
  }
  if (type === "validation_result") {
    const values = Object.entries(payload)
      .filter(([key, value]) => typeof value === "number" && isShown(key))
      .map(([key, value]) => `${key} ${number(value)}`);
    return line("info", fill(words.line_validation, { epoch: payload.epoch, values: values.join(", ") }));
  }
  return null;
}
