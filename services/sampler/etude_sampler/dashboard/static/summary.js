/**
 * The state of a run now: counts, control arm against curriculum, sub-tasks, lanes.
 * Neighbours: `run.js` feeds it with one `CurriculumView`.
 */

// @reads view: CurriculumView
// @reads counts: Counts
// @reads subtask: SubtaskView
// @reads lane: LaneView

import { showArms } from "./arms.js";
import { bar, el, replace, setText, table, whenChanged } from "./dom.js";
import { bytes, fixed, loose, many, percent, short, whole, words } from "./format.js";

const STATES = [
  ["waiting", "Waiting", "in their lanes"],
  ["leased", "Leased", "being rolled out"],
  ["parked", "Parked", "taken out of the lanes"],
];

/** A named number; `set` changes it in place. */
class Tile {
  constructor(name, help) {
    this.value = el("dd", {});
    this.help = el("dd", { class: "quiet" }, help);
    this.node = el("div", { class: "tile" }, el("dt", {}, name), this.value, this.help);
  }

  set(text, help = null) {
    setText(this.value, text);
    if (help !== null) setText(this.help, help);
  }
}

export class Summary {
  constructor() {
    this.tiles = {
      version: new Tile("Policy version", "announced so far"),
      waiting: new Tile(STATES[0][1], STATES[0][2]),
      leased: new Tile(STATES[1][1], STATES[1][2]),
      parked: new Tile(STATES[2][1], STATES[2][2]),
      ready: new Tile("Ready", "groups to train on"),
      training: new Tile("Training", "groups at the trainer"),
      applied: new Tile("Applied", "groups in the statistics"),
    };
    const tiles = Object.values(this.tiles).map((tile) => tile.node);
    this.split = el("div", { class: "split", "aria-hidden": "true" });
    this.notes = el("p", { class: "quiet" });
    this.arms = el("div", {});
    this.subtasks = el("div", {});
    this.lanes = el("div", {});
    this.counts = el(
      "section",
      { class: "panel", "aria-label": "Counts" },
      el("dl", { class: "tiles" }, tiles),
      this.split,
      this.notes,
    );
    const panel = (kind, part) => el("section", { class: `panel ${kind}` }, part);
    this.tables = el(
      "div",
      { class: "tables" },
      panel("wide", this.arms),
      panel("wide", this.subtasks),
      panel("wide", this.lanes),
    );
    this.drawCounts = whenChanged((...given) => this.showCounts(...given));
    this.drawArms = whenChanged((given) => showArms(this.arms, given));
    this.drawSubtasks = whenChanged((subtasks) => this.showSubtasks(subtasks));
    this.drawLanes = whenChanged((lanes) => this.showLanes(lanes));
  }

  update(view) {
    this.drawCounts(view.counts, view);
    const { arms_recent, arms_overall, policy_version } = view;
    this.drawArms({ arms_recent, arms_overall, policy_version });
    this.drawSubtasks(view.subtasks);
    this.drawLanes(view.lanes);
  }

  showCounts(counts, view) {
    const { tiles } = this;
    tiles.version.set(whole(view.policy_version));
    tiles.waiting.set(whole(counts.num_waiting), `of ${whole(counts.num_tasks)} tasks`);
    tiles.leased.set(whole(counts.num_leased), `in ${many(counts.num_prompt_leases, "lease")}`);
    tiles.parked.set(whole(counts.num_parked));
    tiles.ready.set(whole(counts.num_ready_groups), `groups, ${bytes(counts.cargo_bytes)}`);
    tiles.training.set(
      whole(counts.num_training_groups),
      `groups in ${many(counts.num_training_leases, "lease")}`,
    );
    tiles.applied.set(short(view.num_groups_applied));
    const parts = [counts.num_waiting, counts.num_leased, counts.num_parked].map((count, i) => {
      const part = el("span", { class: STATES[i][0], hidden: count === 0 });
      part.style.flexGrow = String(count);
      return part;
    });
    this.split.replaceChildren(...parts);
    setText(
      this.notes,
      `Groups drawn since the last training batch: ${whole(counts.num_groups_drawn)}. So far ` +
        `${many(counts.num_expired, "task")} came back from expired leases; groups too late to ` +
        `count: ${whole(view.num_groups_late)}; ready groups purged as too stale: ` +
        `${whole(counts.num_purged)}, evicted: ${whole(counts.num_evicted)}.`,
    );
  }

  showSubtasks(subtasks) {
    const heads = [
      "Sub-task",
      "Mastery",
      ["± s.e.", "n"],
      ["Threshold", "n"],
      ["Prerequisites", "n"],
      ["Deficit", "n"],
      ["Component weight", "n"],
      ["Tasks seen", "n"],
    ];
    const rows = subtasks.map((subtask) => [
      words(subtask.name),
      bar(subtask.mastery, fixed(subtask.mastery)),
      fixed(subtask.standard_error),
      fixed(subtask.threshold, 2),
      fixed(subtask.prerequisite_factor, 2),
      fixed(subtask.deficit),
      fixed(subtask.component_weight),
      `${whole(subtask.num_tasks_seen)} of ${whole(subtask.num_tasks)}`,
    ]);
    replace(
      this.subtasks,
      el("h3", {}, "Sub-tasks"),
      table("Mastery now, and what the allocator makes of it", heads, rows),
    );
  }

  showLanes(lanes) {
    const heads = [
      "Lane",
      "Share of slots",
      ["Waiting", "n"],
      ["Total weight", "n"],
      ["Slot credit", "n"],
      ["Clock", "n"],
    ];
    const rows = lanes.map((lane) => [
      words(lane.name),
      bar(lane.share, percent(lane.share)),
      whole(lane.num_waiting),
      loose(lane.total_weight),
      fixed(lane.credit, 2),
      loose(lane.clock),
    ]);
    replace(this.lanes, el("h3", {}, "Lanes"), table("Races and their slots", heads, rows));
  }
}
