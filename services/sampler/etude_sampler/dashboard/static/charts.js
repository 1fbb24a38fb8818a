/** What the charts of a run show, each over policy versions. Neighbours: `chart.js`, `run.js`. */

// @reads point: HistoryPoint
// @reads run: Run
// @reads subtask: SubtaskView

import { LineChart } from "./chart.js";
import { el } from "./dom.js";
import { FigureChart } from "./figures.js";
import { fixed, loose, percent, words } from "./format.js";

const share = (value) => percent(value, 0);

/** Lines for a `name -> value` record of each point, in the order of `names`. */
function lines(points, names, tones, read) {
  return names.map((name) => ({
    name,
    label: words(name),
    tone: tones.get(name),
    values: points.map((point) => read(point)[name] ?? null),
    target: null,
  }));
}

const one = (name, tone, points, read) => ({
  name,
  label: name,
  tone,
  values: points.map(read),
  target: null,
});

export class RunCharts {
  constructor() {
    const moved = (version) => this.all.forEach((chart) => chart.point(version));
    const chart = (title, help, options) => new LineChart(title, help, { moved, ...options });
    this.mastery = chart(
      "Mastery per sub-task",
      "Estimated mean of each sub-task's reward component over the run's tasks; dotted: threshold.",
      { format: (value) => fixed(value, 2), low: 0, high: 1 },
    );
    this.shares = chart("Lane shares", "Share of a batch's slots that each lane gets.", {
      format: share,
      low: 0,
    });
    this.reward = chart(
      "Reward per version",
      "Mean raw reward of the groups applied since the version before.",
      { format: loose },
    );
    this.components = chart(
      "Reward components",
      "Mean of each component over those groups; what was drawn differs from version to version.",
      { format: (value) => fixed(value, 2), low: 0, high: 1 },
    );
    this.signal = chart(
      "Success and signal",
      "Rollouts that succeed, and groups whose rewards vary: only those can teach.",
      { format: share, low: 0, high: 1 },
    );
    this.figures = new FigureChart(moved);
    this.all = [this.mastery, this.shares, this.reward, this.components, this.signal, this.figures];
    this.node = el(
      "div",
      { class: "charts" },
      this.all.map((each) => each.node),
    );
  }

  /** Draw a history; `subtasks` of the curriculum view give the thresholds. */
  update(run, points, subtasks) {
    const versions = points.map((point) => point.policy_version);
    const names = run.resolved.subtasks;
    const lanes = run.resolved.lanes;
    const tones = new Map(names.map((name, i) => [name, i]));
    lanes.filter((name) => !tones.has(name)).forEach((name) => tones.set(name, "plain"));
    const thresholds = new Map(subtasks.map((subtask) => [subtask.name, subtask.threshold]));
    const mastery = lines(points, names, tones, (point) => point.mastery);
    mastery.forEach((line) => (line.target = thresholds.get(line.name) ?? null));
    this.mastery.update(versions, mastery);
    this.shares.update(
      versions,
      lines(points, lanes, tones, (point) => point.lane_shares),
    );
    this.reward.update(versions, [one("mean reward", 0, points, (point) => point.mean_reward)]);
    this.components.update(
      versions,
      lines(points, names, tones, (point) => point.mean_components),
    );
    this.signal.update(versions, [
      one("success rate", 2, points, (point) => point.success_rate),
      one("informative groups", 1, points, (point) =>
        point.num_groups ? point.num_informative / point.num_groups : null,
      ),
    ]);
    this.figures.update(points);
  }

  close() {
    this.all.forEach((chart) => chart.close());
  }
}
