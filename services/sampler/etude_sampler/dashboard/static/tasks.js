/** The task explorer of a run: an order, filters, pages. Neighbours: `task.js` shows one task. */

// @reads run: Run
// @reads page: TaskPage
// @reads task: TaskSummary
// @reads stats: TaskStatistics
// @reads dataset: Dataset

import { get } from "./api.js";
import { bar, el, replace, setText, table, whenChanged } from "./dom.js";
import { brief, fixed, whole, words } from "./format.js";

const PAGE = 25;
const ORDERS = [
  ["hardest", "hardest first"],
  ["easiest", "easiest first"],
  ["unseen", "unseen first"],
  ["stalest", "longest not seen"],
  ["improved", "most improved"],
  ["ordinal", "order of import"],
];

function choice(label, options, changed) {
  const select = el(
    "select",
    { onchange: changed },
    options.map(([value, text]) => el("option", { value }, text)),
  );
  return { select, node: el("label", {}, el("span", {}, label), select) };
}

export class TaskList {
  constructor(runId, again) {
    this.runId = encodeURIComponent(runId);
    this.cursors = [null];
    const changed = () => {
      this.cursors = [null];
      again();
    };
    this.order = choice("Order", ORDERS, changed);
    this.subtask = choice("Sub-task", [["", "all"]], changed);
    this.source = choice("Source", [["", "all"]], changed);
    this.rows = el("div", {}, el("p", { class: "quiet" }, "Reading the tasks …"));
    this.where = el("span", { role: "status" });
    this.back = el("button", { type: "button", onclick: () => this.turn(-1, again) }, "Previous");
    this.forth = el("button", { type: "button", onclick: () => this.turn(1, again) }, "Next");
    const filters = el(
      "div",
      { class: "filters" },
      this.order.node,
      this.subtask.node,
      this.source.node,
    );
    const pager = el("div", { class: "pager" }, this.back, this.where, this.forth);
    this.node = el(
      "section",
      { "aria-labelledby": "tasks-title" },
      el("h2", { id: "tasks-title" }, "Tasks"),
      el("div", { class: "panel" }, filters, this.rows, pager),
    );
    this.draw = whenChanged((page) => this.show(page));
  }

  turn(by, again) {
    if (by < 0 && this.cursors.length > 1) this.cursors.pop();
    else if (by > 0 && this.next) this.cursors.push(this.next);
    else return;
    again();
  }

  async read(run, signal) {
    await this.fillFilters(run, signal);
    const query = {
      limit: PAGE,
      cursor: this.cursors.at(-1),
      order: this.order.select.value,
      subtask: this.subtask.select.value,
      source: this.source.select.value,
    };
    const page = await get(`v1/runs/${this.runId}/tasks`, query, signal);
    this.next = page.next_cursor;
    this.draw(page);
  }

  /** Options of the filters, once: sub-tasks of the run, sources of its dataset. */
  async fillFilters(run, signal) {
    if (this.filled) return;
    const dataset = await get(`v1/datasets/${encodeURIComponent(run.dataset_id)}`, {}, signal);
    const sources = run.sources ?? Object.keys(dataset.sources);
    const add = (filter, names, text) =>
      filter.select.append(...names.map((name) => el("option", { value: name }, text(name))));
    add(this.subtask, run.resolved.subtasks, words);
    add(this.source, [...sources].sort(), (name) => name);
    this.filled = true;
  }

  show(page) {
    const first = PAGE * (this.cursors.length - 1);
    const heads = [
      "Task",
      ["Groups", "n"],
      "Success",
      ["Reward", "n"],
      ["± s.d.", "n"],
      ["Last version", "n"],
      ["No.", "n"],
      "Source",
      ["Sub-tasks", "wrap"],
    ];
    const rows = page.items.map((task) => [
      this.link(task),
      ...this.figures(task.statistics),
      whole(task.ordinal),
      task.source,
      task.subtasks.map(words).join(", "),
    ]);
    const none = el("p", {}, "No task fits these filters.");
    replace(
      this.rows,
      rows.length
        ? table("Tasks of the run with their statistics, without scaffold", heads, rows)
        : none,
    );
    setText(this.where, rows.length ? `Tasks ${first + 1} to ${first + rows.length}` : "");
    this.back.disabled = this.cursors.length === 1;
    this.forth.disabled = !page.next_cursor;
  }

  link(task) {
    const href = `#/runs/${this.runId}/tasks/${encodeURIComponent(task.id)}`;
    const code = el("code", {}, brief(task.id));
    return el("a", { href, "data-key": task.id, title: task.id }, code);
  }

  figures(stats) {
    if (!stats) return ["0", el("span", { class: "quiet" }, "never seen"), null, null, null];
    return [
      whole(stats.num_groups),
      bar(stats.success_ema, fixed(stats.success_ema, 2)),
      fixed(stats.reward_mean),
      fixed(Math.sqrt(Math.max(0, stats.reward_variance))),
      whole(stats.last_policy_version),
    ];
  }
}
