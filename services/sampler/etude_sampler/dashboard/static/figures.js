/** The trainer's figures over policy versions, one at a time. Neighbours: `charts.js`. */

// @reads point: HistoryPoint

import { LineChart } from "./chart.js";
import { el } from "./dom.js";
import { loose } from "./format.js";

const FIRST = ["loss", "reward", "kl", "grad_norm"];

export class FigureChart {
  constructor(moved) {
    const help = "A figure that the trainer sent with each version.";
    this.chart = new LineChart("Trainer", help, { format: loose, moved });
    this.select = el("select", { onchange: () => this.draw() });
    const label = el("label", {}, el("span", { class: "unseen" }, "Figure"), this.select);
    this.chart.node.querySelector("figcaption").append(label);
    this.node = this.chart.node;
    this.points = [];
  }

  update(points) {
    this.points = points;
    const names = [...new Set(points.flatMap((point) => Object.keys(point.metrics)))].sort();
    const known = new Set([...this.select.options].map((option) => option.value));
    const first = known.size === 0;
    names
      .filter((name) => !known.has(name))
      .forEach((name) => this.select.append(el("option", { value: name }, name)));
    if (first && names.length)
      this.select.value = FIRST.find((name) => names.includes(name)) ?? names[0];
    this.select.hidden = names.length === 0;
    this.draw();
  }

  draw() {
    const name = this.select.value;
    const versions = this.points.map((point) => point.policy_version);
    const values = this.points.map((point) => point.metrics[name] ?? null);
    const line = { name, label: name, tone: 5, values, target: null };
    this.chart.update(versions, name ? [line] : []);
  }

  point(version) {
    this.chart.point(version);
  }

  close() {
    this.chart.close();
  }
}
