/** One run: its state now, its history in charts, its tasks. Neighbours: see the imports. */

// @reads run: Run
// @reads view: CurriculumView

import { get, History } from "./api.js";
import { RunCharts } from "./charts.js";
import { el, setText, whenChanged } from "./dom.js";
import { when, whole, words } from "./format.js";
import { Summary } from "./summary.js";
import { TaskList } from "./tasks.js";

export class RunView {
  everyS = 2;

  constructor(again, runId) {
    this.path = `v1/runs/${encodeURIComponent(runId)}`;
    this.title = "Run";
    this.history = new History(runId);
    this.summary = new Summary();
    this.charts = new RunCharts();
    this.tasks = new TaskList(runId, again);
    this.heading = el("h1", { tabindex: -1 }, "Run");
    this.state = el("span", { class: "state" });
    this.facts = el("p", { class: "quiet" }, "Reading the run …");
    this.node = el(
      "div",
      {},
      el("nav", { "aria-label": "Path" }, el("a", { href: "#/" }, "All runs")),
      el("div", { class: "title" }, this.heading, this.state),
      this.facts,
      this.summary.counts,
      el("h2", {}, "Over policy versions"),
      this.charts.node,
      el("h2", {}, "Now"),
      this.summary.tables,
      this.tasks.node,
    );
    this.drawCharts = whenChanged((...given) => this.charts.update(...given));
  }

  async read(signal) {
    const [run, view] = await Promise.all([
      get(this.path, {}, signal),
      get(`${this.path}/curriculum`, {}, signal),
    ]);
    this.showRun(run);
    await this.history.follow(view.policy_version, signal);
    const points = this.history.points;
    this.summary.update(view, points.at(-1));
    this.drawCharts(run, points, view.subtasks);
    await this.tasks.read(run, signal);
  }

  showRun(run) {
    this.title = run.name;
    setText(this.heading, run.name);
    setText(this.state, run.status);
    this.state.className = `state ${run.status}`;
    setText(
      this.facts,
      `Preset ${run.resolved.preset} (weigher ${run.resolved.weigher.name}, allocator ` +
        `${run.resolved.allocator.name}, gate ${run.resolved.gate.name}), ${words(run.mode)}, ` +
        `groups of ${whole(run.group_size)}, seed ${run.seed}, created ${when(run.created_at)}.`,
    );
  }

  close() {
    this.charts.close();
  }
}
