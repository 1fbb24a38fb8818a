/**
 * The task explorer of a run: an order, filters, a search, pages by key. What is asked for stands
 * in the address, so that it can be kept and sent. Neighbours: `task.js` shows one task.
 */

// @reads run: Run
// @reads page: TaskPage
// @reads task: TaskSummary
// @reads stats: TaskStatistics

import { get, runHref } from "./api.js";
import { bar, el, replace, setText, table, whenChanged } from "./dom.js";
import { RunFrame } from "./frame.js";
import { brief, fixed, many, whole, words } from "./format.js";

const PAGE = 25;
const MOST_CALLS = 20; // for one page, where what is asked for is rare
const ORDERS = [
  ["hardest", "hardest first"],
  ["easiest", "easiest first"],
  ["improved", "most improved"],
  ["stalest", "longest not seen"],
  ["unseen", "never seen first"],
  ["ordinal", "order of import"],
];
const KINDS = [
  ["", "all"],
  ["seen", "seen"],
  ["unseen", "never seen"],
  ["parked", "parked"],
];

function choice(name, label, options, changed) {
  const select = el(
    "select",
    { name, onchange: changed },
    options.map(([value, text]) => el("option", { value }, text)),
  );
  return { field: select, node: el("label", {}, el("span", {}, label), select) };
}

function input(name, label, attributes) {
  const field = el("input", { name, autocomplete: "off", spellcheck: "false", ...attributes });
  return { field, node: el("label", {}, el("span", {}, label), field) };
}

export class TaskListView {
  everyS = 6;

  constructor(again, runId) {
    this.runId = runId;
    this.again = again;
    this.title = "Tasks";
    this.frame = new RunFrame(runId, "tasks");
    this.cursors = [null];
    const changed = () => this.changed();
    const choices = {
      order: choice("order", "Order", ORDERS, changed),
      only: choice("only", "Kind", KINDS, changed),
      subtask: choice("subtask", "Sub-task", [["", "all"]], changed),
      source: input("source", "Source", { onchange: changed, maxlength: 128, size: 12 }),
      q: input("q", "Search", {
        type: "search",
        maxlength: 128,
        placeholder: "words, task_…, #12",
      }),
    };
    this.fields = Object.fromEntries(Object.entries(choices).map(([n, one]) => [n, one.field]));
    this.given = new URLSearchParams(location.hash.split("?")[1] ?? "");
    this.fill();
    const submit = (event) => {
      event.preventDefault();
      this.changed();
    };
    const form = el(
      "form",
      { class: "filters", role: "search", "aria-label": "Tasks", onsubmit: submit },
      Object.values(choices).map((one) => one.node),
      el("button", { type: "submit" }, "Search"),
    );
    this.rows = el("div", {}, el("p", { class: "quiet" }, "Reading the tasks …"));
    this.where = el("span", { role: "status" });
    this.back = el("button", { type: "button", onclick: () => this.turn(-1) }, "Previous");
    this.forth = el("button", { type: "button", onclick: () => this.turn(1) }, "Next");
    const pager = el("div", { class: "pager" }, this.back, this.where, this.forth);
    this.node = el(
      "div",
      {},
      this.frame.parts,
      el("h2", {}, "Tasks"),
      el("div", { class: "panel" }, form, this.rows, pager),
    );
    this.draw = whenChanged((...given) => this.show(...given));
  }

  /** Set the fields by the address; a sub-task becomes an option once the run is known. */
  fill() {
    for (const [name, field] of Object.entries(this.fields)) {
      const value = this.given.get(name) ?? (name === "order" ? "hardest" : "");
      if (name === "subtask" && ![...field.options].some((one) => one.value === value)) {
        field.append(el("option", { value }, words(value)));
      }
      field.value = value;
    }
  }

  get query() {
    const given = Object.entries(this.fields).map(([name, field]) => [name, field.value.trim()]);
    return Object.fromEntries(given.filter(([, value]) => value));
  }

  changed() {
    this.cursors = [null];
    const text = new URLSearchParams(this.query).toString();
    history.replaceState(null, "", runHref(this.runId, `/tasks?${text}`));
    this.again();
  }

  turn(by) {
    if (by < 0 && this.cursors.length > 1) this.cursors.pop();
    else if (by > 0 && this.next) this.cursors.push(this.next);
    else return;
    this.again();
  }

  async read(signal) {
    const run = await this.frame.read(signal);
    this.title = `Tasks of ${run.name}`;
    this.fillSubtasks(run);
    const items = [];
    let cursor = this.cursors.at(-1);
    let looked = 0;
    for (let calls = 0; calls < MOST_CALLS && items.length < PAGE; calls += 1) {
      const asked = { ...this.query, limit: PAGE - items.length, cursor };
      const page = await get(`${this.frame.path}/tasks`, asked, signal);
      items.push(...page.items);
      looked += page.num_looked_at ?? 0;
      cursor = page.next_cursor;
      if (!cursor) break;
      if (items.length < PAGE) setText(this.where, `Looked at ${many(looked, "task")} …`);
    }
    this.next = cursor;
    this.draw(items, looked, cursor !== null);
  }

  fillSubtasks(run) {
    if (this.filled) return;
    const { subtask } = this.fields;
    const known = new Set([...subtask.options].map((option) => option.value));
    run.resolved.subtasks
      .filter((name) => !known.has(name))
      .forEach((name) => subtask.append(el("option", { value: name }, words(name))));
    this.filled = true;
  }

  show(items, looked, more) {
    const first = PAGE * (this.cursors.length - 1);
    const gained = this.query.order === "improved" && !this.query.only;
    const heads = [
      "Task",
      ["Groups", "n"],
      "Success",
      ...(gained ? [["Gain", "n"]] : []),
      ["Reward", "n"],
      ["± s.d.", "n"],
      ["Last version", "n"],
      ["No.", "n"],
      "Source",
      ["Sub-tasks", "wrap"],
    ];
    const rows = items.map((task) => {
      const [groups, success, ...rest] = this.figures(task.statistics);
      return [
        this.link(task),
        groups,
        success,
        ...(gained ? [`+${fixed(task.gain)}`] : []),
        ...rest,
        whole(task.ordinal),
        task.source,
        task.subtasks.map(words).join(", "),
      ];
    });
    const none = more
      ? `None among the ${many(looked, "task")} looked at; go on with Next.`
      : "No task fits.";
    replace(
      this.rows,
      rows.length
        ? table("Tasks of the run with their statistics, without scaffold", heads, rows)
        : el("p", {}, none),
    );
    const range = `Tasks ${whole(first + 1)} to ${whole(first + rows.length)}`;
    setText(this.where, rows.length ? range : "");
    this.back.disabled = this.cursors.length === 1;
    this.forth.disabled = !more;
  }

  link(task) {
    const href = runHref(this.runId, `/tasks/${encodeURIComponent(task.id)}`);
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

  close() {}
}
