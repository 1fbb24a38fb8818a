/** One task of a run: why it has its weight, its statistics, its last groups, its prompt. */

// @reads run: Run
// @reads view: TaskView
// @reads task: Task
// @reads term: WeightTerm
// @reads stats: TaskStatistics
// @reads entry: LedgerEntry
// @reads message: Message
// @reads tool: Tool

import { get } from "./api.js";
import { bar, el, replace, setText, svg, table, whenChanged } from "./dom.js";
import { fixed, loose, when, whole, words } from "./format.js";

const scaffold = (kind, level) =>
  kind === "none" && level === 0 ? "none" : `${words(kind)} ${level}`;

/** The rewards of a group as dots on a line; the text beside it says the same. */
function strip(rewards, low, high) {
  const span = high > low ? high - low : 1;
  const dots = rewards.map((reward) =>
    svg("circle", { cx: 5 + (90 * (reward - low)) / span, cy: 7, r: 3 }),
  );
  return svg(
    "svg",
    { class: "strip", width: 100, height: 14, "aria-hidden": "true" },
    svg("path", { d: "M5 7h90" }),
    dots,
  );
}

function tally(names) {
  const counts = new Map();
  names.forEach((name) => counts.set(name, (counts.get(name) ?? 0) + 1));
  return [...counts].map(([name, count]) => `${count} ${words(name)}`).join(", ");
}

export class OneTaskView {
  everyS = 4;

  constructor(again, runId, taskId) {
    this.runPath = `v1/runs/${encodeURIComponent(runId)}`;
    this.path = `${this.runPath}/tasks/${encodeURIComponent(taskId)}`;
    this.title = `Task ${taskId}`;
    this.back = el("a", { href: `#/runs/${encodeURIComponent(runId)}` }, "Run");
    this.state = el("span", { class: "state" });
    this.facts = el("p", { class: "quiet" }, "Reading the task …");
    const panel = () => el("section", { class: "panel" });
    Object.assign(this, {
      weights: panel(),
      statistics: panel(),
      recent: panel(),
      prompt: panel(),
    });
    this.node = el(
      "div",
      {},
      el("nav", { "aria-label": "Path" }, el("a", { href: "#/" }, "All runs"), " / ", this.back),
      el(
        "div",
        { class: "title" },
        el("h1", { tabindex: -1 }, "Task ", el("code", {}, taskId)),
        this.state,
      ),
      this.facts,
      this.weights,
      this.statistics,
      this.recent,
      this.prompt,
    );
    this.drawWeights = whenChanged((terms) => this.showWeights(terms));
    this.drawStatistics = whenChanged((all) => this.showStatistics(all));
    this.drawRecent = whenChanged((entries) => this.showRecent(entries));
    this.drawPrompt = whenChanged((task) => this.showPrompt(task));
  }

  async read(signal) {
    const [run, view] = await Promise.all([
      get(this.runPath, {}, signal),
      get(this.path, {}, signal),
    ]);
    setText(this.back, run.name);
    setText(this.state, view.state);
    this.state.className = `state ${view.state}`;
    const task = view.task;
    const predicted =
      view.prediction === null
        ? ""
        : ` A side model predicts success ${fixed(view.prediction, 2)}.`;
    const skills = task.subtasks.map(words).join(", ") || "none";
    const about = `No. ${whole(task.ordinal)} of source ${task.source}, ${words(task.split)} split`;
    setText(this.facts, `${about}; sub-tasks: ${skills}.${predicted}`);
    this.drawWeights(view.weights);
    this.drawStatistics(view.statistics);
    this.drawRecent(view.recent);
    this.drawPrompt(task);
  }

  showWeights(terms) {
    const heads = ["Lane", ["Weight", "n"], ["Because", "text"], "Racing"];
    const rows = terms.map((term) => [
      words(term.lane),
      loose(term.weight),
      term.explanation,
      term.in_lane ? "yes" : "no",
    ]);
    const help = "A task of twice the weight comes round twice as often in that lane.";
    replace(
      this.weights,
      el("h2", {}, "Why it has its weight"),
      el("p", { class: "quiet" }, help),
      table("Weight in each lane", heads, rows),
    );
  }

  showStatistics(all) {
    const title = el("h2", {}, "Statistics");
    if (!all.length) {
      replace(
        this.statistics,
        title,
        el("p", {}, "Never seen: no group of this task has been applied yet."),
      );
      return;
    }
    const heads = [
      "Scaffold",
      ["Groups", "n"],
      "Success",
      ["Successes", "n"],
      ["Failures", "n"],
      ["Reward", "n"],
      ["± s.d.", "n"],
      ["Mean |advantage|", "n"],
      ["Easy / hard streak", "n"],
      ["Last version", "n"],
    ];
    const rows = all.map((stats) => [
      scaffold(stats.scaffold_kind, stats.scaffold_level),
      whole(stats.num_groups),
      bar(stats.success_ema, fixed(stats.success_ema, 2)),
      fixed(stats.num_successes, 2),
      fixed(stats.num_failures, 2),
      fixed(stats.reward_mean),
      fixed(Math.sqrt(Math.max(0, stats.reward_variance))),
      fixed(stats.mean_abs_advantage),
      `${whole(stats.streak_easy)} / ${whole(stats.streak_hard)}`,
      whole(stats.last_policy_version),
    ]);
    replace(this.statistics, title, table("By scaffold", heads, rows), this.components(all));
  }

  components(all) {
    const heads = ["Component", "Scaffold", "Mean", ["Variance within a group", "n"]];
    const rows = all.flatMap((stats) =>
      Object.entries(stats.component_means).map(([name, mean]) => [
        words(name),
        scaffold(stats.scaffold_kind, stats.scaffold_level),
        bar(mean, fixed(mean)),
        fixed(stats.component_variances[name], 4),
      ]),
    );
    return rows.length ? table("Reward components", heads, rows, { seen: true }) : null;
  }

  showRecent(entries) {
    const title = el("h2", {}, "Last groups");
    if (!entries.length) {
      replace(this.recent, title, el("p", {}, "None yet."));
      return;
    }
    const rewards = entries.flatMap((entry) => entry.rewards);
    const [low, high] = [Math.min(...rewards), Math.max(...rewards)];
    const heads = [
      "Group",
      ["Version", "n"],
      "Lane",
      "Scaffold",
      "Verdict",
      ["Rewards", "wrap"],
      ["Success", "n"],
      "Ended by",
      "At",
    ];
    const rows = entries.map((entry) => [
      `#${whole(entry.apply_seq)}`,
      whole(entry.policy_version),
      words(entry.lane),
      scaffold(entry.scaffold_kind, entry.scaffold_level),
      words(entry.verdict),
      el(
        "span",
        { class: "strip-cell" },
        strip(entry.rewards, low, high),
        entry.rewards.map(loose).join(" "),
      ),
      `${entry.successes.filter(Boolean).length} of ${entry.successes.length}`,
      tally(entry.finish_reasons),
      when(entry.created_at),
    ]);
    replace(this.recent, title, table("Newest first", heads, rows));
  }

  showPrompt(task) {
    const said = task.messages.map((message) =>
      el(
        "div",
        { class: "message" },
        el("h3", {}, message.role),
        el("pre", { tabindex: 0 }, message.content),
      ),
    );
    const folded = (name, value) =>
      el(
        "details",
        {},
        el("summary", {}, name),
        el("pre", { tabindex: 0 }, JSON.stringify(value, null, 2)),
      );
    const tools = task.tools.map((tool) => tool.name).join(", ");
    replace(
      this.prompt,
      el("h2", {}, "Prompt"),
      said,
      task.tools.length
        ? folded(`Tools on offer: ${tools}`, task.tools)
        : el("p", {}, "No tools on offer."),
      task.reference ? folded("Gold", task.reference) : null,
      folded("Metadata", task.metadata),
    );
  }

  close() {}
}
