/** How a run's tasks are spread: success, visits, weights. Neighbours: `histogram.js` draws. */

// @reads run: Run
// @reads found: Distributions

import { get } from "./api.js";
import { el, replace, setText, whenChanged } from "./dom.js";
import { RunFrame } from "./frame.js";
import { fixed, loose, whole, words } from "./format.js";
import { BarChart } from "./histogram.js";

export class SpreadView {
  everyS = 6;

  constructor(again, runId) {
    this.title = "Distributions";
    this.frame = new RunFrame(runId, "spread");
    this.basis = el("p", { class: "quiet" });
    const help = "Moving average of each seen task's success; near 0 and 1 little can be learned.";
    const two = (edge) => fixed(edge, 2);
    this.success = new BarChart("Success rates", help, { format: two, tone: 2 });
    this.visits = new BarChart("Visits", "Groups of each seen task so far.", {
      format: whole,
      tone: 5,
      counted: true,
    });
    this.weights = el("div", { class: "charts" });
    this.lanes = new Map();
    this.node = el(
      "div",
      {},
      this.frame.parts,
      el("h2", {}, "Tasks"),
      this.basis,
      el("div", { class: "charts" }, this.success.node, this.visits.node),
      el("h2", {}, "Weights in each lane"),
      el(
        "p",
        { class: "quiet" },
        "A task of twice the weight comes round twice as often; each bar is wider by a factor.",
      ),
      this.weights,
    );
    this.draw = whenChanged((found) => this.show(found));
  }

  async read(signal) {
    const [run, found] = await Promise.all([
      this.frame.read(signal),
      get(`${this.frame.path}/distributions`, {}, signal),
    ]);
    this.title = `Distributions of ${run.name}`;
    this.draw(found);
  }

  show(found) {
    const all = found.num_sampled === found.num_tasks;
    const basis = all
      ? `All ${whole(found.num_tasks)} tasks`
      : `A fixed random sample of ${whole(found.num_sampled)} of ${whole(found.num_tasks)} tasks`;
    const never = found.num_sampled - found.num_seen;
    setText(this.basis, `${basis}; ${whole(never)} of these were never seen.`);
    this.success.update(found.success);
    this.visits.update(found.visits);
    if (found.weights.some((lane) => !this.lanes.has(lane.name))) {
      this.lanes = new Map(
        found.weights.map((lane) => [
          lane.name,
          new BarChart(words(lane.name), "Weight of the tasks that stand in this lane.", {
            format: loose,
          }),
        ]),
      );
      replace(this.weights, ...[...this.lanes.values()].map((chart) => chart.node));
    }
    found.weights.forEach((lane) => this.lanes.get(lane.name).update(lane));
  }

  close() {}
}
