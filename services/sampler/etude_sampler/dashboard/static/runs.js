/** The list of runs, newest first as the API gives it. Neighbours: `page.js` routes here. */

// @reads page: RunPage
// @reads run: Run

import { get, runHref } from "./api.js";
import { el, replace, table, whenChanged } from "./dom.js";
import { when, whole, words } from "./format.js";

const PAGE = 100;
const MOST_PAGES = 20;

export class RunsView {
  everyS = 4;

  constructor(again) {
    this.again = again;
    this.numPages = 1;
    this.list = el("div", { class: "panel" });
    this.pair = el("section", { "aria-label": "Two runs side by side" });
    this.node = el("div", {}, el("h1", { tabindex: -1 }, "Runs"), this.list, this.pair);
    this.title = "Runs";
    this.draw = whenChanged((runs, more) => this.show(runs, more));
  }

  async read(signal) {
    const runs = [];
    let cursor = null;
    for (let at = 0; at < this.numPages; at += 1) {
      const page = await get("v1/runs", { limit: PAGE, cursor }, signal);
      runs.push(...page.items);
      cursor = page.next_cursor;
      if (!cursor) break;
    }
    this.draw(runs, cursor !== null);
  }

  show(runs, more) {
    if (!runs.length) {
      const how = "Import tasks and create one, for example with ";
      const end = ", or let the demo do both: ";
      replace(
        this.list,
        el("h2", {}, "No run yet"),
        el(
          "p",
          {},
          how,
          el("code", {}, "etude import"),
          " and ",
          el("code", {}, "etude runs create"),
          end,
          el("code", {}, "make demo"),
          ".",
        ),
      );
      return;
    }
    const heads = [
      "Run",
      "Status",
      "Preset",
      ["Version", "n"],
      ["Tasks", "n"],
      ["Group size", "n"],
      "Mode",
      "Created",
    ];
    const rows = runs.map((run) => [
      el("a", { href: runHref(run.id), "data-key": run.id }, run.name),
      el("span", { class: `state ${run.status}` }, run.status),
      run.resolved.preset,
      whole(run.policy_version),
      whole(run.num_tasks),
      whole(run.group_size),
      words(run.mode),
      when(run.created_at),
    ]);
    const button = el(
      "button",
      { type: "button", "data-key": "more", onclick: () => this.more() },
      "Show more runs",
    );
    const canGrow = more && this.numPages < MOST_PAGES;
    replace(this.list, table("All runs", heads, rows), canGrow ? button : null);
    this.showPair(runs);
  }

  /** A form that leads to two runs side by side; what was chosen stays chosen. */
  showPair(runs) {
    if (runs.length < 2) {
      replace(this.pair);
      return;
    }
    const options = () =>
      runs.map((run) => el("option", { value: run.id }, `${run.name} (${run.id})`));
    const chosen = this.selects?.map((select) => select.value) ?? [runs[0].id, runs[1].id];
    this.selects = ["First run", "Second run"].map((label, i) => {
      const select = el("select", { "aria-label": label, "data-key": label }, options());
      select.value = chosen[i];
      return select;
    });
    const go = (event) => {
      event.preventDefault();
      const [first, second] = this.selects.map((select) => encodeURIComponent(select.value));
      location.hash = `#/compare/${first}/${second}`;
    };
    const button = el("button", { type: "submit", "data-key": "compare" }, "Compare");
    replace(
      this.pair,
      el("h2", {}, "Two runs side by side"),
      el("form", { class: "filters panel", onsubmit: go }, this.selects, button),
    );
  }

  more() {
    this.numPages += 1;
    this.again();
  }

  close() {}
}
