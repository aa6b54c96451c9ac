// Colours: the page's own, and a few that people with any colour vision can tell apart.

// Okabe and Ito's palette; on a dark ground its lighter half.
const LIGHT = { train: "#0072b2", validation: "#c14a00", mark: "#6b4fa0" };
const DARK = { train: "#56b4e9", validation: "#f0a202", mark: "#cc99d6" };

/** What charts need to know of the theme that is in force on an element. */
export function theme(element) {
  const style = getComputedStyle(element);
  const value = (name, otherwise) => {
    const found = style.getPropertyValue(`--st-${name}`).trim();
    return found && found !== "unset" ? found : otherwise;
  };
  const background = value("background-color", "#ffffff");
  const text = value("text-color", "#31333f");
  const dark = isDark(background);
  return {
    ...(dark ? DARK : LIGHT),
    dark,
    text,
    background,
    grid: faded(text, 0.14),
    font: value("font", "sans-serif"),
  };
}

/** Red, green and blue of a colour as CSS writes it, 0 to 255. */
export function parts(color) {
  const hex = /^#([0-9a-f]{6})/i.exec(color);
  if (hex) return [0, 2, 4].map((at) => parseInt(hex[1].slice(at, at + 2), 16));
  const short = /^#([0-9a-f])([0-9a-f])([0-9a-f])$/i.exec(color);
  if (short) return short.slice(1).map((digit) => parseInt(digit + digit, 16));
  const numbers = color.match(/[\d.]+/g);
  return numbers && numbers.length >= 3 ? numbers.slice(0, 3).map(Number) : [255, 255, 255];
}

export function isDark(color) {
  const [red, green, blue] = parts(color);
  return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
}

export function faded(color, opacity) {
  return `rgba(${parts(color).join(",")},${opacity})`;
}
