/** A run at a glance: its state now, its history in charts. Neighbours: see the imports. */

// @reads run: Run
// @reads view: CurriculumView

import { get } from "./api.js";
import { RunCharts } from "./charts.js";
import { el, whenChanged } from "./dom.js";
import { RunFrame } from "./frame.js";
import { Summary } from "./summary.js";

const POINTS = 240;

export class RunView {
  everyS = 3;

  constructor(again, runId) {
    this.title = "Run";
    this.frame = new RunFrame(runId, "overview");
    this.summary = new Summary();
    this.charts = new RunCharts(again);
    this.node = el(
      "div",
      {},
      this.frame.parts,
      this.summary.counts,
      el("h2", {}, "Over policy versions"),
      this.charts.node,
      el("h2", {}, "Now"),
      this.summary.tables,
    );
    this.drawCharts = whenChanged((...given) => this.charts.update(...given));
  }

  async read(signal) {
    const { path } = this.frame;
    const query = { points: POINTS, figure: this.charts.figure };
    const [run, view, series] = await Promise.all([
      this.frame.read(signal),
      get(`${path}/curriculum`, {}, signal),
      get(`${path}/series`, query, signal),
    ]);
    this.title = run.name;
    this.summary.update(view);
    this.drawCharts(run, series, view.subtasks);
  }

  close() {
    this.charts.close();
  }
}
