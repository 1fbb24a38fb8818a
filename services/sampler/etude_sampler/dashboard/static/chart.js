/**
 * A line chart over policy versions: inline SVG, a cursor for pointer and keyboard, a legend that
 * hides and shows lines, and the same numbers as a table. Neighbours: `scale.js` has the
 * arithmetic; `charts.js` says what each chart shows.
 */

import { el, replace, setText, svg, table } from "./dom.js";
import { bucketSize, extent, path, spread, thin, ticks, wholeTicks } from "./scale.js";

const HEIGHT = 210;
const PAD = { top: 10, bottom: 26, left: 46 };
const LABEL_GAP = 14;
const MOST_LABELS = 6;
const TABLE_ROWS = 200;
const NUM_TONES = 8;

/** Class of the n-th line: eight colours, then the same ones dashed. */
function toneClass(series) {
  if (series.tone === "plain") return "tone-plain";
  const dash = Math.floor(series.tone / NUM_TONES) % 2 ? " dashed" : "";
  return `tone-${series.tone % NUM_TONES}${dash}`;
}

export class LineChart {
  /**
   * `format(value)` makes texts; `low` and `high` fix the axis (null: from the data);
   * `moved(version)` is told where the cursor went.
   */
  constructor(title, help, { format, low = null, high = null, moved = () => {} }) {
    Object.assign(this, { title, format, low, high, moved, versions: [], series: [] });
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
   * `versions` ascending; `series` of `{name, label, tone, values, target}` with one value (or
   * null) a version, and a target that is drawn as a thin line (or null).
   */
  update(versions, series) {
    Object.assign(this, { versions, series });
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

  draw() {
    const width = Math.floor(this.plot.clientWidth);
    if (width < 40) return;
    const labelled = width >= 420 && this.shown.length <= MOST_LABELS;
    const longest = Math.max(0, ...this.shown.map((one) => one.label.length));
    const right = width - (labelled ? Math.min(170, 18 + 7.4 * longest) : 12);
    this.size = bucketSize(this.versions.length, Math.max(60, Math.floor((right - PAD.left) / 2)));
    this.axis(right);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.cursor = svg("g", { class: "cursor" });
    const lines = this.shown.map((one) => this.line(one));
    const labels = labelled ? this.endLabels(right) : [];
    this.svg.replaceChildren(...this.grid(right), ...lines, ...labels, this.cursor);
    this.drawLegend();
    this.drawCursor();
  }

  /** Scales `this.x(version)` and `this.y(value)`, and the ticks. */
  axis(right) {
    const found = extent(this.shown) ?? [0, 1];
    const [low, high] = [this.low ?? found[0], this.high ?? found[1]];
    const room = high > low ? 0 : Math.max(0.5, Math.abs(high) * 0.1);
    this.yTicks = ticks(low - room, high + room, 4);
    const [bottom, top] = [this.yTicks[0], this.yTicks.at(-1)];
    const first = this.versions[0] ?? 0;
    const last = Math.max(first + 1, this.versions.at(-1) ?? 1);
    this.x = (version) => PAD.left + ((right - PAD.left) * (version - first)) / (last - first);
    this.y = (value) =>
      HEIGHT - PAD.bottom - ((HEIGHT - PAD.bottom - PAD.top) * (value - bottom)) / (top - bottom);
    this.xTicks = wholeTicks(first, last, Math.max(2, Math.floor((right - PAD.left) / 70)));
  }

  grid(right) {
    const floor = HEIGHT - PAD.bottom;
    const parts = this.yTicks.flatMap((value) => {
      const y = this.y(value);
      return [
        svg("line", { class: "grid", x1: PAD.left, x2: right, y1: y, y2: y }),
        svg("text", { x: PAD.left - 7, y: y + 4, class: "tick end" }, this.format(value)),
      ];
    });
    for (const version of this.xTicks) {
      const x = this.x(version);
      parts.push(svg("line", { class: "grid", x1: x, x2: x, y1: floor, y2: floor + 4 }));
      parts.push(svg("text", { x, y: floor + 18, class: "tick middle" }, String(version)));
    }
    for (const one of this.shown) {
      if (one.target === null) continue;
      const [x1, x2, y] = [PAD.left, right, this.y(one.target)];
      parts.push(svg("line", { class: `target ${toneClass(one)}`, x1, x2, y1: y, y2: y }));
    }
    return parts;
  }

  line(one) {
    const versions = thin(this.versions, this.size);
    const points = thin(one.values, this.size).map((value, i) =>
      value === null ? null : [this.x(versions[i]), this.y(value)],
    );
    return svg("path", { class: `line ${toneClass(one)}`, d: path(points) });
  }

  endLabels(right) {
    const ends = this.shown.filter((one) => one.values.some((value) => value !== null));
    const heights = ends.map((one) => this.y(one.values.findLast((value) => value !== null)));
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
      const key = `${this.title}/${one.name}`;
      const sample = svg("svg", { width: 22, height: 10, "aria-hidden": "true" });
      sample.append(svg("path", { class: `line ${toneClass(one)}`, d: "M1 5h20" }));
      const pressed = String(!this.hidden.has(one.name));
      const toggle = () => this.toggle(one.name);
      const attributes = {
        type: "button",
        "aria-pressed": pressed,
        "data-key": key,
        onclick: toggle,
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

  drawCursor() {
    if (!this.cursor) return;
    const i = this.index;
    const version = this.versions[i];
    const text = (one) => this.format(one.values[i] ?? null);
    this.series.forEach((one, k) => setText(this.values[k], text(one)));
    const thinned = this.size > 1 ? `; each point is the mean of ${this.size} versions` : "";
    const which = this.at === null ? "newest" : "at the cursor";
    setText(
      this.where,
      version === undefined
        ? "No version yet."
        : `Values of version ${version} (${which})${thinned}`,
    );
    this.describe(version, this.shown.map((one) => `${one.label} ${text(one)}`).join(", "));
    this.cursor.replaceChildren();
    if (this.at === null || version === undefined) return;
    const x = this.x(version);
    this.cursor.append(svg("line", { x1: x, x2: x, y1: PAD.top, y2: HEIGHT - PAD.bottom }));
    for (const one of this.shown) {
      if (one.values[i] === null) continue;
      this.cursor.append(
        svg("circle", { class: toneClass(one), cx: x, cy: this.y(one.values[i]), r: 3.5 }),
      );
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
    const targets = {
      ArrowLeft: this.index - 1,
      ArrowDown: this.index - 1,
      ArrowRight: this.index + 1,
      ArrowUp: this.index + 1,
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
      .map((version, i) => [
        String(version),
        ...this.series.map((one) => this.format(one.values[i])),
      ])
      .slice(-TABLE_ROWS)
      .reverse();
    const caption =
      `${this.title}, newest first` +
      (this.versions.length > TABLE_ROWS ? `, last ${TABLE_ROWS}` : "");
    replace(this.numbers.lastElementChild, table(caption, heads, rows));
  }

  close() {
    this.watcher.disconnect();
  }
}
