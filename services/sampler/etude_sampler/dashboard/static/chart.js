/**
 * A line chart over policy versions: inline SVG, bands, a cursor for pointer and keyboard, a legend
 * that hides and shows lines, and the same numbers as a table. Neighbours: `scale.js` has the
 * arithmetic, `stack.js` piles lines up, `charts.js` says what each chart shows.
 */

import { el, replace, setText, svg, table } from "./dom.js";
import { band, extent, path, spread, ticks, wholeTicks } from "./scale.js";

const HEIGHT = 210;
const PAD = { top: 10, bottom: 26, left: 46 };
const LABEL_GAP = 14;
const MOST_LABELS = 6;
const TABLE_ROWS = 240;
const NUM_TONES = 8;

/** Class of the n-th line: eight colours, then the same ones dashed. */
export function toneClass(series) {
  if (series.tone === "plain") return "tone-plain";
  const dash = Math.floor(series.tone / NUM_TONES) % 2 ? " dashed" : "";
  return `tone-${series.tone % NUM_TONES}${dash}`;
}

export class LineChart {
  /**
   * `format(value)` makes texts, `tick` the axis'; `low` and `high` fix it (null: by the data);
   * `moved(version)` is told where the cursor went.
   */
  constructor(title, help, { format, tick = format, low = null, high = null, moved = () => {} }) {
    Object.assign(this, { title, format, tick, low, high, moved, versions: [], series: [] });
    this.every = 1;
    this.hidden = new Set();
    this.at = null;
    this.svg = svg("svg", { "aria-hidden": "true", focusable: "false", height: HEIGHT });
    this.plot = el(
      "div",
      { class: "plot", tabindex: 0, role: "slider", "aria-label": `${title}: version` },
      this.svg,
    );
    this.where = el("p", { class: "quiet where" });
    this.legend = el("ul", { class: "legend" });
    this.numbers = el("details", {}, el("summary", {}, `${title} as a table`), el("div"));
    this.numbers.addEventListener("toggle", () => this.fillTable());
    this.node = el(
      "figure",
      { class: "chart panel" },
      el("figcaption", {}, el("h3", {}, title), el("p", { class: "quiet" }, help)),
      this.plot,
      this.where,
      this.legend,
      this.numbers,
    );
    this.plot.addEventListener("pointermove", (event) => this.onPointer(event));
    this.plot.addEventListener("pointerleave", () => this.moved(null));
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
    this.plot.addEventListener("blur", () => this.moved(null));
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.plot);
  }

  /**
   * `series` of `{name, label, tone, at, values, low, high, target}`: one value (or null) for each
   * version of `at`, ends of a band or null, a target that is drawn as a thin line or null. A point
   * stands for `every` versions.
   */
  update(series, every = 1) {
    Object.assign(this, { series, every });
    this.versions = [...new Set(series.flatMap((one) => one.at))].sort((a, b) => a - b);
    this.draw();
    this.fillTable();
  }

  /** Move the cursor to a version, or away (null); other charts may lead. */
  point(version) {
    this.at = version;
    this.drawCursor();
  }

  get shown() {
    return this.series.filter((one) => !this.hidden.has(one.name));
  }

  /** Height at which the n-th value of a line is drawn, or null. */
  height(one, i) {
    return one.values[i] ?? null;
  }

  draw() {
    const width = Math.floor(this.plot.clientWidth);
    if (width < 40) return;
    const labelled = width >= 420 && this.shown.length <= MOST_LABELS;
    const longest = Math.max(0, ...this.shown.map((one) => one.label.length));
    const right = width - (labelled ? Math.min(170, 18 + 7.4 * longest) : 12);
    this.axis(right);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.cursor = svg("g", { class: "cursor" });
    const lines = this.shown.flatMap((one) => this.lines(one));
    const labels = labelled ? this.endLabels(right) : [];
    this.svg.replaceChildren(...this.grid(right), ...lines, ...labels, this.cursor);
    this.drawLegend();
    this.drawCursor();
  }

  /** Scales `this.x(version)` and `this.y(value)`, and the ticks. */
  axis(right) {
    const found = extent(this.shown) ?? [0, 1];
    const [low, high] = [this.low ?? found[0], this.high ?? found[1]];
    const margin = high > low ? 0 : Math.max(0.5, Math.abs(high) * 0.1);
    this.yTicks = ticks(low - margin, high + margin, 4);
    const [bottom, top] = [this.yTicks[0], this.yTicks.at(-1)];
    const first = this.versions[0] ?? 0;
    const last = Math.max(first + 1, this.versions.at(-1) ?? 1);
    this.x = (version) => PAD.left + ((right - PAD.left) * (version - first)) / (last - first);
    this.y = (value) => {
      const inside = Math.min(top, Math.max(bottom, value));
      const room = HEIGHT - PAD.bottom - PAD.top;
      return HEIGHT - PAD.bottom - (room * (inside - bottom)) / (top - bottom);
    };
    this.xTicks = wholeTicks(first, last, Math.max(2, Math.floor((right - PAD.left) / 70)));
  }

  grid(right) {
    const floor = HEIGHT - PAD.bottom;
    const parts = this.yTicks.flatMap((value) => {
      const y = this.y(value);
      return [
        svg("line", { class: "grid", x1: PAD.left, x2: right, y1: y, y2: y }),
        svg("text", { x: PAD.left - 7, y: y + 4, class: "tick end" }, this.tick(value)),
      ];
    });
    for (const version of this.xTicks) {
      const x = this.x(version);
      parts.push(svg("line", { class: "grid", x1: x, x2: x, y1: floor, y2: floor + 4 }));
      parts.push(svg("text", { x, y: floor + 18, class: "tick middle" }, String(version)));
    }
    for (const one of this.shown) {
      if (one.target === null || one.target === undefined) continue;
      const [x1, x2, y] = [PAD.left, right, this.y(one.target)];
      parts.push(svg("line", { class: `target ${toneClass(one)}`, x1, x2, y1: y, y2: y }));
    }
    return parts;
  }

  /** A line over its band. */
  lines(one) {
    const place = (value, i) => (value === null ? null : [this.x(one.at[i]), this.y(value)]);
    const drawn = svg("path", {
      class: `line ${toneClass(one)}`,
      d: path(one.values.map(place)),
    });
    if (!one.low || !one.high) return [drawn];
    const around = svg("path", {
      class: `band ${toneClass(one)}`,
      d: band(one.low.map(place), one.high.map(place)),
    });
    return [around, drawn];
  }

  endLabels(right) {
    const last = (one) => one.values.findLastIndex((value) => value !== null);
    const ends = this.shown.filter((one) => last(one) >= 0);
    const heights = ends.map((one) => this.y(this.height(one, last(one))));
    const placed = spread(heights, LABEL_GAP, PAD.top + 4, HEIGHT - PAD.bottom);
    return ends.map((one, i) =>
      svg(
        "text",
        { x: right + 8, y: placed[i] + 4, class: `end-label ${toneClass(one)}` },
        one.label,
      ),
    );
  }

  drawLegend() {
    const now = JSON.stringify(this.series.map((one) => [one.name, this.hidden.has(one.name)]));
    if (now === this.legendNow) return;
    this.legendNow = now;
    this.values = this.series.map(() => el("span", { class: "value" }));
    const items = this.series.map((one, i) => {
      const sample = svg("svg", { width: 22, height: 10, "aria-hidden": "true" });
      sample.append(svg("path", { class: `line ${toneClass(one)}`, d: "M1 5h20" }));
      const attributes = {
        type: "button",
        "aria-pressed": String(!this.hidden.has(one.name)),
        "data-key": `${this.title}/${one.name}`,
        onclick: () => this.toggle(one.name),
      };
      return el("li", {}, el("button", attributes, sample, one.label), this.values[i]);
    });
    replace(this.legend, items);
  }

  toggle(name) {
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.draw();
  }

  /** The version under the cursor, or the newest. */
  get index() {
    const found = this.at === null ? -1 : this.versions.findLastIndex((v) => v <= this.at);
    return found < 0 ? this.versions.length - 1 : found;
  }

  /** Place in a line of the point that a version belongs to, or -1. */
  placeOf(one, version) {
    return version === undefined ? -1 : one.at.findLastIndex((at) => at <= version);
  }

  /** A value with its band, as a text. */
  textOf(one, i) {
    const text = this.format(one.values[i] ?? null);
    if (i < 0 || !one.low || one.low[i] === null || one.high[i] === null) return text;
    if (one.low[i] === one.values[i] && one.high[i] === one.values[i]) return text;
    return `${text} (${this.format(one.low[i])} to ${this.format(one.high[i])})`;
  }

  drawCursor() {
    if (!this.cursor || !this.values) return;
    const version = this.versions[this.index];
    const text = (one) => this.textOf(one, this.placeOf(one, version));
    this.series.forEach((one, k) => setText(this.values[k], text(one)));
    const which = this.at === null ? "newest" : "at the cursor";
    const span = this.every > 1 ? `; a point stands for ${this.every} versions` : "";
    setText(
      this.where,
      version === undefined ? "No version yet." : `Values of version ${version} (${which})${span}`,
    );
    this.describe(version, this.shown.map((one) => `${one.label} ${text(one)}`).join(", "));
    this.cursor.replaceChildren();
    if (this.at === null || version === undefined) return;
    const x = this.x(version);
    this.cursor.append(svg("line", { x1: x, x2: x, y1: PAD.top, y2: HEIGHT - PAD.bottom }));
    for (const one of this.shown) {
      const i = this.placeOf(one, version);
      const height = this.height(one, i);
      if (height === null) continue;
      const [cx, cy] = [this.x(one.at[i]), this.y(height)];
      this.cursor.append(svg("circle", { class: toneClass(one), cx, cy, r: 3.5 }));
    }
  }

  describe(version, text) {
    const set = (name, value) => this.plot.setAttribute(`aria-${name}`, String(value));
    set("valuemin", this.versions[0] ?? 0);
    set("valuemax", this.versions.at(-1) ?? 0);
    set("valuenow", version ?? 0);
    set("valuetext", version === undefined ? "no version yet" : `version ${version}: ${text}`);
  }

  onPointer(event) {
    if (!this.x || !this.versions.length) return;
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    const near = (a, b) => (Math.abs(this.x(a) - x) <= Math.abs(this.x(b) - x) ? a : b);
    this.moved(this.versions.reduce(near));
  }

  onKey(event) {
    const last = this.versions.length - 1;
    const leap = Math.max(1, Math.round(this.versions.length / 10));
    const [back, forth] = [this.index - 1, this.index + 1];
    const targets = {
      ArrowLeft: back,
      ArrowDown: back,
      ArrowRight: forth,
      ArrowUp: forth,
      PageDown: this.index - leap,
      PageUp: this.index + leap,
      Home: 0,
      End: last,
    };
    if (event.key === "Escape") this.moved(null);
    if (!(event.key in targets) || last < 0) return;
    event.preventDefault();
    this.moved(this.versions[Math.min(last, Math.max(0, targets[event.key]))]);
  }

  fillTable() {
    if (!this.numbers.open) return;
    const heads = ["Version", ...this.series.map((one) => [one.label, "n"])];
    const rows = this.versions
      .slice(-TABLE_ROWS)
      .reverse()
      .map((version) => [
        String(version),
        ...this.series.map((one) => this.textOf(one, this.placeOf(one, version))),
      ]);
    const cut = this.versions.length > TABLE_ROWS ? `, last ${TABLE_ROWS}` : "";
    replace(
      this.numbers.lastElementChild,
      table(`${this.title}, newest first${cut}`, heads, rows),
    );
  }

  close() {
    this.watcher.disconnect();
  }
}
