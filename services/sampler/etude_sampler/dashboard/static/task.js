/** One task of a run: why it has its weight, its statistics, its last groups, its prompt. */

// @reads run: Run
// @reads view: TaskView
// @reads task: Task
// @reads term: WeightTerm
// @reads stats: TaskStatistics
// @reads message: Message
// @reads tool: Tool

import { get, runHref, runPath } from "./api.js";
import { bar, el, replace, setText, table, whenChanged } from "./dom.js";
import { fixed, loose, whole, words } from "./format.js";
import { Groups, scaffold } from "./groups.js";

export class OneTaskView {
  everyS = 4;

  constructor(again, runId, taskId) {
    this.runPath = runPath(runId);
    this.path = `${this.runPath}/tasks/${encodeURIComponent(taskId)}`;
    this.title = `Task ${taskId}`;
    this.back = el("a", { href: runHref(runId) }, "Run");
    const list = el("a", { href: runHref(runId, "/tasks") }, "Tasks");
    this.groups = new Groups(this.path);
    this.state = el("span", { class: "state" });
    this.facts = el("p", { class: "quiet" }, "Reading the task …");
    const panel = () => el("section", { class: "panel" });
    Object.assign(this, {
      weights: panel(),
      statistics: panel(),
      prompt: panel(),
    });
    this.node = el(
      "div",
      {},
      el("nav", { "aria-label": "Path" }, [
        el("a", { href: "#/" }, "All runs"),
        " / ",
        this.back,
        " / ",
        list,
      ]),
      el(
        "div",
        { class: "title" },
        el("h1", { tabindex: -1 }, "Task ", el("code", {}, taskId)),
        this.state,
      ),
      this.facts,
      this.weights,
      this.statistics,
      this.groups.node,
      this.prompt,
    );
    this.drawWeights = whenChanged((...given) => this.showWeights(...given));
    this.drawStatistics = whenChanged((all) => this.showStatistics(all));
    this.drawRecent = whenChanged((entries) => this.groups.update(entries));
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
    const also = [view.hard, view.budget, view.pool].filter((text) => text);
    this.drawWeights(view.weights, also);
    this.drawStatistics(view.statistics);
    this.drawRecent(view.recent);
    this.drawPrompt(task);
  }

  showWeights(terms, also) {
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
      also.map((text) => el("p", { class: "quiet" }, text)),
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
