/** Two runs side by side: what they are, where they stand, and their history in the same charts. */

// @reads run: Run
// @reads series: Series
// @reads view: CurriculumView
// @reads arms: ArmsView
// @reads line: Line

import { get, runHref, runPath } from "./api.js";
import { drawn } from "./charts.js";
import { LineChart } from "./chart.js";
import { el, replace, setText, table, whenChanged } from "./dom.js";
import { fixed, loose, percent, short, whole, words } from "./format.js";

const POINTS = 240;
const TONES = [0, 1];
const share = (value) => percent(value, 1);

/** `12.3 % (10.1 to 14.5 %)`. */
function interval(one, format) {
  if (!one || one.mean === null) return null;
  if (one.low === null) return format(one.mean);
  return `${format(one.mean)} (${format(one.low)} to ${format(one.high)})`;
}

/** Rows of the table: a name, and what one run says to it. */
const ROWS = [
  ["Preset", ({ run }) => run.resolved.preset],
  ["Status", ({ run }) => run.status],
  ["Seed", ({ run }) => String(run.seed)],
  ["Tasks", ({ run }) => whole(run.num_tasks)],
  ["Group size", ({ run }) => whole(run.group_size)],
  ["Policy version", ({ view }) => whole(view.policy_version)],
  ["Groups applied", ({ view }) => whole(view.num_groups_applied)],
  ["Sampled tokens", ({ series }) => short(series.num_tokens.reduce((sum, n) => sum + n, 0))],
  ["Success, control arm", ({ arms }) => interval(arms?.control.success_rate, share)],
  ["Success, curriculum", ({ arms }) => interval(arms?.curriculum.success_rate, share)],
  ["Informative groups, control", ({ arms }) => interval(arms?.control.informative_share, share)],
  [
    "Informative groups, curriculum",
    ({ arms }) => interval(arms?.curriculum.informative_share, share),
  ],
  [
    "Reward per 1,000 tokens, control",
    ({ arms }) => interval(arms?.control.reward_per_1k_tokens, fixed),
  ],
];

export class CompareView {
  everyS = 5;

  constructor(again, first, second) {
    this.title = "Two runs";
    this.ids = [first, second];
    this.links = this.ids.map((id) => el("a", { href: runHref(id) }, id));
    this.facts = el("section", { class: "panel" });
    this.charts = new Map();
    this.grid = el("div", { class: "charts" });
    this.node = el(
      "div",
      {},
      el("nav", { "aria-label": "Path" }, el("a", { href: "#/" }, "All runs")),
      el("div", { class: "title" }, el("h1", { tabindex: -1 }, "Two runs")),
      el("p", { class: "quiet" }, this.links[0], " and ", this.links[1]),
      this.facts,
      el("h2", {}, "Over policy versions"),
      this.grid,
    );
    this.drawFacts = whenChanged((...given) => this.showFacts(...given));
    this.drawCharts = whenChanged((...given) => this.showCharts(...given));
  }

  async read(signal) {
    const one = async (id) => {
      const path = runPath(id);
      const [run, view, series] = await Promise.all([
        get(path, {}, signal),
        get(`${path}/curriculum`, {}, signal),
        get(`${path}/series`, { points: POINTS }, signal),
      ]);
      return { run, view, series, arms: view.arms_overall };
    };
    const both = await Promise.all(this.ids.map(one));
    const names = both.map(({ run }) => run.name);
    this.title = names.join(" and ");
    names.forEach((name, i) => setText(this.links[i], name));
    this.drawFacts(both.map((found) => ROWS.map(([, read]) => read(found))), names);
    this.drawCharts(both.map(({ series }) => series), names);
  }

  showFacts(columns, names) {
    const rows = ROWS.map(([name], i) => [name, ...columns.map((column) => column[i])]);
    const told = "Intervals hold 95 %. What the curriculum changes, two forks of one run tell.";
    replace(
      this.facts,
      el("h2", {}, "Where they stand"),
      el("p", { class: "quiet" }, told),
      table("Both runs", ["", ...names], rows),
    );
  }

  /** The same line of both runs in one chart. */
  pair(title, help, options, lines, all, names) {
    if (lines.every((line) => !line)) return;
    if (!this.charts.has(title)) {
      const moved = (version) => this.charts.forEach((chart) => chart.point(version));
      this.charts.set(title, new LineChart(title, help, { moved, ...options }));
    }
    const label = (i) => (names[0] === names[1] ? `${names[i]} (${this.ids[i]})` : names[i]);
    const found = lines.flatMap((line, i) => {
      if (!line) return [];
      const one = drawn(line, all[i].versions, TONES[i], { label: label(i) });
      return [{ ...one, name: String(i) }];
    });
    this.charts.get(title).update(found, Math.max(...all.map((series) => series.every)));
  }

  showCharts(all, names) {
    const tick = (value) => percent(value, 0);
    const two = (value) => fixed(value, 2);
    const unit = { low: 0, high: 1, format: share, tick };
    const arm = (who, what) =>
      all.map((series) => series.arms.find((line) => line.name === `${who}.${what}`));
    const both = (read) => all.map(read);
    const spread = "The band spans the least and the greatest version of a point.";
    const sure = "With 95 % intervals.";
    const arms = "Over 20 versions, with 95 % intervals.";
    const add = (...given) => this.pair(...given, all, names);
    add("Success, control arm", arms, unit, arm("control", "success_rate"));
    add("Informative groups, curriculum", arms, unit, arm("curriculum", "informative_share"));
    add("Success, all groups", spread, unit, both((series) => series.success));
    add("Reward", spread, { format: loose }, both((series) => series.reward));
    const subtasks = [...new Set(all.flatMap((series) => series.mastery.map((one) => one.name)))];
    for (const name of subtasks) {
      const lines = both((series) => series.mastery.find((line) => line.name === name));
      add(`Mastery of ${words(name)}`, sure, { low: 0, high: 1, format: two }, lines);
    }
    const nodes = [...this.charts.values()].map((chart) => chart.node);
    if (nodes.length !== this.grid.children.length) this.grid.replaceChildren(...nodes);
  }

  close() {
    this.charts.forEach((chart) => chart.close());
  }
}
