// What Plotly is given: traces, axes, marks.

import { fill } from "./format.js";
import { chartOf, sideOf } from "./points.js";
import { faded } from "./theme.js";

const DOTS = 120; // with fewer points than this each of them is shown
const ROOM = 130; // pixels that a mark's label needs

let drawings = 0;

/** A metric by the name that people read. */
export function reading(words, key) {
  const known = words[`metric_${key}`];
  if (known) return known;
  const side = sideOf(key) === "train" ? words.metric_of_training : words.metric_of_validation;
  return fill(side, { name: chartOf(key) });
}

/** Data, layout and configuration of a chart. */
export function drawing(home, name, all, width) {
  const { theme, settings, words } = home;
  // an epoch's mean besides every batch's loss is for those who have room for it
  const curves = all.filter(({ key }) => key !== "train_loss" || width > 450);
  const left = remains(curves, theme, words);
  const data = [...left, ...curves.flatMap((curve) => traces(curve, theme, settings, words))];
  const legend = curves.length > 1 || left.length > 0;
  const log = settings.log && name !== "learning_rate";
  return {
    data,
    layout: {
      datarevision: ++drawings, // the arrays are the same ones, with more in them
      uirevision: `${home.runId}`, // as long as it is the same, what a visitor has zoomed to stays
      autosize: true,
      margin: { l: 58, r: 12, t: legend ? 30 : 12, b: 34 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: theme.text, family: theme.font, size: 12 },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // fingers scroll
      hovermode: "closest",
      hoverlabel: { font: { family: theme.font } },
      showlegend: legend,
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", font: { size: 11 } },
      xaxis: { ...axis(theme), rangemode: "tozero" },
      yaxis: {
        ...axis(theme),
        type: log ? "log" : "linear",
        exponentformat: "power",
        ...(log ? {} : room(curves)),
        // its own, so that the other kind of axis begins with the whole range
        uirevision: `${home.runId} ${log}`,
        automargin: false,
      },
    },
    config: {
      displaylogo: false,
      modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
      locale: "tz",
      locales: { tz: { dictionary: words.plotly ?? {}, format: {} } },
      doubleClick: "reset+autosize",
      toImageButtonOptions: { filename: `tsuzuku-${name}` },
    },
  };
}

/** Around values that are all the same Plotly would draw one more and one less, whatever they are. */
function room(curves) {
  const left = curves.flatMap(({ tails = [] }) => tails.flatMap(({ value }) => value));
  const known = (values) => [...values, ...left].filter((value) => value !== null);
  const lows = known(curves.flatMap(({ min }) => min));
  const highs = known(curves.flatMap(({ max }) => max));
  const low = lows.reduce((a, b) => Math.min(a, b), Infinity);
  const high = highs.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!(high - low <= 1e-9 * Math.abs(high))) return {};
  const around = Math.abs(high) * 0.5 || 1;
  return { autorange: false, range: [low - around, high + around] };
}

function axis(theme) {
  return {
    gridcolor: theme.grid,
    linecolor: theme.grid,
    zerolinecolor: theme.grid,
    tickfont: { size: 11 },
    fixedrange: false,
  };
}

function traces(curve, theme, settings, words) {
  const { key, step, value, min, max, smooth, band } = curve;
  const side = sideOf(key);
  const color = theme[side];
  const name = reading(words, key);
  const common = { x: step, type: "scatter", name, legendgroup: key };
  const rough = settings.smoothing > 0;
  const found = [];
  if (band) {
    const edge = { ...common, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    found.push({ ...edge, y: min });
    found.push({ ...edge, y: max, fill: "tonexty", fillcolor: faded(color, 0.18) });
  }
  const dots = step.length < DOTS && !rough;
  const line = {
    ...common,
    mode: dots ? "lines+markers" : "lines",
    marker: { size: side === "validation" ? 6 : 4, symbol: side === "validation" ? "diamond" : "circle" },
    hovertemplate: `%{y:.5g}<br>Step %{x:,}<extra>${escaped(name)}</extra>`,
  };
  const thick = { color, width: 1.8, dash: side === "validation" ? "dot" : "solid" };
  // an epoch's mean besides every batch's loss: there for who wants it
  const visible = key === "train_loss" ? "legendonly" : true;
  if (rough) {
    found.push({ ...line, y: value, line: { color: faded(color, 0.3), width: 1 }, showlegend: false, visible });
    found.push({ ...line, y: smooth, line: thick, visible });
  } else {
    found.push({ ...line, y: value, line: thick, visible });
  }
  return found;
}

/** The tails, thin and faint below the curves; one entry in the legend, which has little room. */
function remains(curves, theme, words) {
  let named = false;
  return curves.flatMap(({ key, tails = [] }) =>
    tails.map(({ runId, step, value }) => {
      const visible = key === "train_loss" ? "legendonly" : true;
      const showlegend = !named && visible === true;
      named ||= showlegend;
      const of = escaped(`${reading(words, key)}, ${fill(words.tail_of, { run: runId })}`);
      return {
        x: step,
        y: value,
        type: "scatter",
        mode: "lines",
        name: words.tails,
        showlegend,
        legendgroup: "tails",
        legendrank: 2000, // after the run's own
        line: { color: faded(theme[sideOf(key)], 0.5), width: 1.3 },
        hovertemplate: `%{y:.5g}<br>Step %{x:,}<extra>${of}</extra>`,
        visible,
      };
    })
  );
}

/** Plotly reads some markup in names; a metric's name is none. */
export function escaped(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** A line at every resume between two steps, with its label where there is room for one. */
export function marks(home, from, to, width) {
  const { resumes, theme, words } = home;
  const shapes = [];
  const annotations = [];
  const perPixel = (to - from) / Math.max(1, width - 70) || 1;
  let free = -Infinity;
  for (const { step, label, branch } of resumes) {
    if (step < from || step > to) continue;
    shapes.push({
      type: "line",
      xref: "x",
      yref: "paper",
      x0: step,
      x1: step,
      y0: 0,
      y1: 1,
      line: { color: theme.mark, width: 1.5, dash: branch ? "dashdot" : "dash" },
    });
    if (step < free) continue;
    free = step + ROOM * perPixel;
    const late = (to - step) / perPixel < ROOM;
    annotations.push({
      x: step,
      y: 0.98,
      xref: "x",
      yref: "paper",
      yanchor: "top",
      xanchor: late ? "right" : "left",
      text: escaped(fill(branch ? words.branched_at : words.resumed_at, { origin: label })),
      showarrow: false,
      font: { size: 11, color: theme.mark },
      bgcolor: faded(theme.background, 0.75),
    });
  }
  return { shapes, annotations };
}
