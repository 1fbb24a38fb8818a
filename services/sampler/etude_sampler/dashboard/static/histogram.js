/** Bars over bins, with the same numbers as a table. Neighbours: `spread.js` says of what. */

// @reads histogram: Histogram

import { el, replace, setText, svg, table } from "./dom.js";
import { percent, whole } from "./format.js";

const WIDTH = 480;
const HEIGHT = 150;
const PAD = { top: 6, bottom: 22, left: 6, right: 6 };

export class BarChart {
  /** `format(edge)` makes texts; `unit` is what is counted; `counted`: edges are whole numbers. */
  constructor(title, help, { format, tone = 0, unit = "tasks", counted = false }) {
    Object.assign(this, { title, format, unit, counted });
    this.svg = svg("svg", {
      class: `bars tone-${tone}`,
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      "aria-hidden": "true",
      focusable: "false",
    });
    this.told = el("p", { class: "quiet" });
    this.numbers = el("div");
    this.node = el(
      "figure",
      { class: "chart panel" },
      el("figcaption", {}, el("h3", {}, title), el("p", { class: "quiet" }, help)),
      this.svg,
      this.told,
      el("details", {}, el("summary", {}, `${title} as a table`), this.numbers),
    );
  }

  update(histogram) {
    const [edges, counts] = [histogram.edges, histogram.counts];
    const total = counts.reduce((sum, count) => sum + count, 0);
    const most = Math.max(1, ...counts);
    const step = (WIDTH - PAD.left - PAD.right) / counts.length;
    const floor = HEIGHT - PAD.bottom;
    const bars = counts.map((count, i) => {
      const height = ((floor - PAD.top) * count) / most;
      const box = { x: PAD.left + i * step + 0.5, y: floor - height, width: step - 1, height };
      return svg("rect", box);
    });
    const ends = [0, Math.floor(counts.length / 2), counts.length].map((i) => {
      const x = PAD.left + i * step;
      const kind = i === 0 ? "" : i === counts.length ? "end" : "middle";
      return svg("text", { x, y: HEIGHT - 6, class: `tick ${kind}` }, this.format(edges[i]));
    });
    const { left, right } = PAD;
    const line = svg("line", { class: "grid", x1: left, x2: WIDTH - right, y1: floor, y2: floor });
    this.svg.replaceChildren(line, ...bars, ...ends);
    setText(this.told, this.summary(edges, counts, total));
    const rows = counts.map((count, i) => [
      this.binOf(edges, i),
      whole(count),
      total ? percent(count / total) : null,
    ]);
    const heads = ["From, to", [`Number of ${this.unit}`, "n"], ["Share", "n"]];
    replace(this.numbers, table(this.title, heads, rows));
  }

  binOf(edges, i) {
    const [low, high] = [edges[i], this.counted ? edges[i + 1] - 1 : edges[i + 1]];
    return low === high ? this.format(low) : `${this.format(low)} to ${this.format(high)}`;
  }

  /** What a glance at the bars tells. */
  summary(edges, counts, total) {
    if (!total) return "Nothing to count yet.";
    const fullest = counts.indexOf(Math.max(...counts));
    let below = 0;
    const middle = counts.findIndex((count) => (below += count) >= total / 2);
    const half = edges[middle + 1] - (this.counted ? 1 : 0);
    return (
      `${whole(total)} ${this.unit}; half of them up to ${this.format(half)}; ` +
      `most often ${this.binOf(edges, fullest)} (${percent(counts[fullest] / total, 0)}).`
    );
  }
}
