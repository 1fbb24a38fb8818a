/** What the charts of a run show, each over policy versions. Neighbours: `chart.js`, `run.js`. */

// @reads series: Series
// @reads run: Run
// @reads subtask: SubtaskView
// @reads line: Line

import { LineChart } from "./chart.js";
import { el } from "./dom.js";
import { fixed, loose, percent, words } from "./format.js";
import { StackChart } from "./stack.js";

const share = (value) => percent(value, 0);
const finer = (value) => percent(value, 1);
const ARM_TONES = { control: "plain", curriculum: 0 };

/** A line of the API as a chart draws it. */
export function drawn(line, at, tone, { label = words(line.name), target = null } = {}) {
  const { values, low, high } = line;
  return { name: line.name, label, tone, at, values, low, high, target };
}

/** Lines of an arms' figure, one an arm. */
function arms(series, figure) {
  return series.arms
    .filter((line) => line.name.endsWith(`.${figure}`))
    .map((line) => {
      const arm = line.name.split(".")[0];
      const label = arm === "control" ? "control (uniform)" : arm;
      return drawn(line, series.versions, ARM_TONES[arm], { label });
    });
}

export class RunCharts {
  constructor(again) {
    const moved = (version) => this.all.forEach((chart) => chart.point(version));
    const make = (Kind, title, help, options) => new Kind(title, help, { moved, ...options });
    const unit = { low: 0, high: 1 };
    this.mastery = make(
      LineChart,
      "Mastery per sub-task",
      "Estimated mean of each sub-task's component over the run's tasks, with its 95 % interval; " +
        "dotted: threshold.",
      { format: (value) => fixed(value, 2), ...unit },
    );
    this.lanes = make(
      StackChart,
      "Slots per lane",
      "Share of the groups that took a slot of each lane.",
      { format: share, ...unit },
    );
    this.arms = make(
      LineChart,
      "Informative groups: control arm and curriculum",
      "Groups whose rewards vary, for only those can teach; over 20 versions, 95 % intervals.",
      { format: finer, tick: share, ...unit },
    );
    this.armSuccess = make(
      LineChart,
      "Success: control arm and curriculum",
      "Rollouts that succeed, by how their task was drawn; over 20 versions, 95 % intervals.",
      { format: finer, tick: share, ...unit },
    );
    this.signal = make(
      LineChart,
      "Success and signal",
      "All groups; the band spans the least and the greatest version of a point.",
      { format: share, ...unit },
    );
    this.reward = make(
      LineChart,
      "Reward",
      "Mean raw reward of the groups applied since the version before.",
      { format: loose },
    );
    this.components = make(
      LineChart,
      "Reward components",
      "Mean of each component over those groups; what was drawn differs from version to version.",
      { format: (value) => fixed(value, 2), ...unit },
    );
    const help = "A figure that the trainer sent with each version.";
    this.trainer = make(LineChart, "Trainer", help, { format: loose });
    this.select = el("select", { onchange: () => again() });
    this.trainer.node
      .querySelector("figcaption")
      .append(el("label", {}, el("span", { class: "unseen" }, "Figure"), this.select));
    this.all = [
      this.mastery,
      this.lanes,
      this.arms,
      this.armSuccess,
      this.signal,
      this.reward,
      this.components,
      this.trainer,
    ];
    this.node = el(
      "div",
      { class: "charts" },
      this.all.map((each) => each.node),
    );
  }

  /** The trainer's figure that is chosen, or an empty text. */
  get figure() {
    return this.select.value;
  }

  /** Draw a history; `subtasks` of the curriculum view give the thresholds. */
  update(run, series, subtasks) {
    const { versions, every } = series;
    const names = run.resolved.subtasks;
    const tones = new Map(names.map((name, i) => [name, i]));
    const tone = (name) => tones.get(name) ?? "plain";
    const target = new Map(subtasks.map((subtask) => [subtask.name, subtask.threshold]));
    const lines = (found) => found.map((line) => drawn(line, versions, tone(line.name)));
    const mastery = lines(series.mastery);
    mastery.forEach((one) => Object.assign(one, { target: target.get(one.name) ?? null }));
    this.mastery.update(mastery, every);
    this.lanes.update(lines(series.lane_groups), every);
    this.arms.update(arms(series, "informative_share"), every);
    this.armSuccess.update(arms(series, "success_rate"), every);
    const signal = [drawn(series.success, versions, 2), drawn(series.informative, versions, 1)];
    this.signal.update(signal, every);
    this.reward.update([drawn(series.reward, versions, 0)], every);
    this.components.update(lines(series.components), every);
    this.updateFigure(series);
  }

  updateFigure(series) {
    const { select } = this;
    const known = new Set([...select.options].map((option) => option.value));
    series.figures
      .filter((name) => !known.has(name))
      .forEach((name) => select.append(el("option", { value: name }, name)));
    select.hidden = series.figures.length === 0;
    if (series.figure) select.value = series.figure.name;
    const found = series.figure ? [drawn(series.figure, series.versions, 5)] : [];
    this.trainer.update(found, series.every);
  }

  close() {
    this.all.forEach((chart) => chart.close());
  }
}
