/** The last groups of a task: rewards, components, completions. Neighbours: `task.js`. */

// @reads entry: LedgerEntry

import { getBytes } from "./api.js";
import { readGroup } from "./cargo.js";
import { el, replace, svg, table } from "./dom.js";
import { fixed, loose, when, whole, words } from "./format.js";

export const scaffold = (kind, level) =>
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

export class Groups {
  /** `path` is that of the task's data. */
  constructor(path) {
    this.path = path;
    this.node = el("section", { class: "panel" });
    this.opened = new Map(); // what was fetched or unfolded, by group
  }

  update(entries) {
    const title = el("h2", {}, "Last groups");
    if (!entries.length) {
      replace(this.node, title, el("p", {}, "None yet."));
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
    replace(
      this.node,
      title,
      table("Newest first", heads, rows),
      el("h3", { class: "part" }, "Rollouts of each group"),
      entries.map((entry) => this.details(entry)),
    );
  }

  /** One group unfolded: a row a rollout, and a way to its trajectories. */
  details(entry) {
    const key = String(entry.apply_seq);
    const held = this.opened.get(key) ?? { open: false, shown: null };
    this.opened.set(key, held);
    const names = Object.keys(entry.components);
    const heads = ["Rollout", ["Reward", "n"], "Success", "Ended by"];
    const rows = entry.rewards.map((reward, i) => [
      whole(i + 1),
      loose(reward),
      entry.successes[i] ? "yes" : "no",
      words(entry.finish_reasons[i]),
      ...names.map((name) => fixed(entry.components[name][i] ?? null)),
    ]);
    const caption = `Reward components of group #${whole(entry.apply_seq)}`;
    const shown = el("div", {}, held.shown);
    const show = async () => {
      held.shown = await this.trajectories(entry);
      replace(shown, held.shown);
    };
    const button = el(
      "button",
      { type: "button", onclick: show, "data-key": `t${key}` },
      "Show completions",
      el("span", { class: "unseen" }, ` of group #${whole(entry.apply_seq)}`),
    );
    const where = `#${whole(entry.apply_seq)}, version ${whole(entry.policy_version)}`;
    return el(
      "details",
      { open: held.open, ontoggle: (event) => (held.open = event.target.open) },
      el("summary", { "data-key": `s${key}` }, `Group ${where}`),
      table(caption, [...heads, ...names.map((name) => [words(name), "n"])], rows),
      el("div", { class: "pager" }, button),
      shown,
    );
  }

  async trajectories(entry) {
    try {
      const path = `${this.path}/trajectories/${encodeURIComponent(entry.lease_id)}`;
      return this.completions(readGroup(await getBytes(path)), entry);
    } catch (error) {
      const why = error.status ? error.message : "The trajectories cannot be read.";
      return el("p", { class: "quiet", role: "status" }, why);
    }
  }

  completions({ rollouts }, entry) {
    const heads = [
      "Rollout",
      ["Tokens", "n"],
      ["Sampled", "n"],
      ["Mean log-probability", "n"],
      "Policy versions",
    ];
    const rows = rollouts.map((one, i) => [
      whole(i + 1),
      whole(one.tokens),
      whole(one.sampled),
      fixed(one.logprob),
      one.versions.join(", ") || null,
    ]);
    const texts = rollouts.flatMap((one, i) =>
      one.text === null
        ? []
        : [
            el("h4", {}, `Completion ${i + 1}, reward ${loose(entry.rewards[i])}`),
            el("pre", { tabindex: 0, "aria-label": `Completion ${i + 1}` }, one.text),
          ],
    );
    const none = el("p", { class: "quiet" }, "The rollout service has not sent the texts.");
    const caption = `Trajectories of group #${whole(entry.apply_seq)}`;
    return el("div", {}, table(caption, heads, rows), texts.length ? texts : none);
  }
}
