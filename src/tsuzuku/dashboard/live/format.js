// How numbers, times and sizes are written: always the same width where it can be, never NaN.

export const NOTHING = "-";

/** Whether it is a number that can be shown. */
export function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** Four significant digits: 0.1234, 12.34, 1.23e-5. */
export function number(value) {
  if (!known(value)) return NOTHING;
  const size = Math.abs(value);
  if (value === 0) return "0.000";
  if (size < 1e-3 || size >= 1e5) return value.toExponential(2);
  if (size >= 1e3) return value.toFixed(0);
  return value.toPrecision(4);
}

/** As learning rates are written: 1.00e-3. */
export function rate(value) {
  return known(value) ? value.toExponential(2) : NOTHING;
}

/** A count with separators: 12,345. */
export function count(value) {
  return known(value) ? Math.round(value).toLocaleString("en-US") : NOTHING;
}

/** A pace: one decimal below a hundred, none above. */
export function pace(value) {
  if (!known(value)) return NOTHING;
  return value < 100 ? value.toFixed(1) : count(value);
}

/** Seconds as 0:05, 12:34 or 1:02:03; beyond four days in days and hours. */
export function span(seconds, words) {
  if (!known(seconds) || seconds < 0) return NOTHING;
  const whole = Math.round(seconds);
  const two = (part) => String(part).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  if (hours >= 96) {
    return fill(words.days_hours, { days: count(Math.floor(hours / 24)), hours: hours % 24 });
  }
  const minutes = Math.floor(whole / 60) % 60;
  const rest = two(whole % 60);
  return hours ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}

/** Bytes: 512 B, 1.2 GB. */
export function bytes(value) {
  if (!known(value)) return NOTHING;
  let [size, unit] = [value, "B"];
  for (const next of ["kB", "MB", "GB", "TB", "PB"]) {
    if (size < 1000) break;
    [size, unit] = [size / 1000, next];
  }
  return unit === "B" ? `${Math.round(size)} B` : `${size < 100 ? size.toFixed(1) : Math.round(size)} ${unit}`;
}

export function percent(value) {
  return known(value) ? `${value.toFixed(value < 100 ? 1 : 0)} %` : NOTHING;
}

/** A moment in the reader's own time zone: 14:05:09, with the date if it is not today. */
export function clock(seconds, now = new Date()) {
  if (!known(seconds)) return NOTHING;
  const at = new Date(seconds * 1000);
  const two = (part) => String(part).padStart(2, "0");
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === now.toDateString()) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** A text with its {places} filled. */
export function fill(template, values) {
  return template.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}
