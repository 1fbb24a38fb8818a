/** What every view of a run shares: path, name, state, the ways to the other views. */

// @reads run: Run

import { get, runHref, runPath } from "./api.js";
import { el, setText } from "./dom.js";
import { when, whole, words } from "./format.js";

const VIEWS = [
  ["overview", "Overview", ""],
  ["spread", "Distributions", "/spread"],
  ["flow", "Queue and workers", "/flow"],
  ["tasks", "Tasks", "/tasks"],
];

export class RunFrame {
  /** `here` is the name of the view; `title` heads a view below the run's own. */
  constructor(runId, here) {
    this.path = runPath(runId);
    this.heading = el("h1", { tabindex: -1 }, "Run");
    this.state = el("span", { class: "state" });
    this.facts = el("p", { class: "quiet" }, "Reading the run …");
    const links = VIEWS.map(([name, text, rest]) => {
      const current = name === here ? "page" : null;
      return el("li", {}, el("a", { href: runHref(runId, rest), "aria-current": current }, text));
    });
    this.parts = [
      el("nav", { "aria-label": "Path" }, el("a", { href: "#/" }, "All runs")),
      el("div", { class: "title" }, this.heading, this.state),
      this.facts,
      el("nav", { class: "tabs", "aria-label": "Views of this run" }, el("ul", {}, links)),
    ];
  }

  /** Read the run and show what it is; returns it. */
  async read(signal) {
    const run = await get(this.path, {}, signal);
    setText(this.heading, run.name);
    setText(this.state, run.status);
    this.state.className = `state ${run.status}`;
    setText(
      this.facts,
      `Preset ${run.resolved.preset} (weigher ${run.resolved.weigher.name}, allocator ` +
        `${run.resolved.allocator.name}, gate ${run.resolved.gate.name}), ${words(run.mode)}, ` +
        `groups of ${whole(run.group_size)}, seed ${run.seed}, created ${when(run.created_at)}.`,
    );
    return run;
  }
}
