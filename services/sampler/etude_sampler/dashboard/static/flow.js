/** What goes on in a run: ready queue by age, leases, workers, pace. Neighbours: `frame.js`. */

// @reads run: Run
// @reads found: Activity
// @reads lease: LeaseView
// @reads worker: WorkerView
// @reads age: ReadyAge
// @reads view: CurriculumView
// @reads counts: Counts
// @reads decisions: DecisionTotals

import { get } from "./api.js";
import { bar, el, replace, setText, table, whenChanged } from "./dom.js";
import { RunFrame } from "./frame.js";
import { ago, brief, bytes, many, percent, seconds, whole } from "./format.js";

const SOON = 0.25; // of its time to live: a lease with less left is close to its end

/** How old weights are that went out with a lease. */
function behind(version, newest) {
  if (version === null) return null;
  const lag = newest - version;
  return lag ? `${whole(version)} (${whole(lag)} behind)` : `${whole(version)} (newest)`;
}

export class FlowView {
  everyS = 3;

  constructor(again, runId) {
    this.title = "Queue and workers";
    this.frame = new RunFrame(runId, "flow");
    const panel = () => el("section", { class: "panel" });
    Object.assign(this, { queue: panel(), health: panel(), workers: panel(), leases: panel() });
    this.node = el(
      "div",
      {},
      this.frame.parts,
      el("div", { class: "tables" }, this.queue, this.health),
      this.workers,
      this.leases,
    );
    this.drawQueue = whenChanged((...given) => this.showQueue(...given));
    this.drawHealth = whenChanged((...given) => this.showHealth(...given));
    this.drawWorkers = whenChanged((...given) => this.showWorkers(...given));
    this.drawLeases = whenChanged((...given) => this.showLeases(...given));
  }

  async read(signal) {
    const [run, found, view] = await Promise.all([
      this.frame.read(signal),
      get(`${this.frame.path}/activity`, {}, signal),
      get(`${this.frame.path}/curriculum`, {}, signal),
    ]);
    this.title = `Queue and workers of ${run.name}`;
    this.drawQueue(found.ready, found.max_staleness, found.cap_groups, view.counts);
    this.drawHealth(found.decisions, found.version_times, view.counts);
    this.drawWorkers(found.workers, found.num_workers, found.policy_version);
    this.drawLeases(found.leases, found.num_leases);
  }

  showQueue(ready, bound, cap, counts) {
    const most = Math.max(1, ...ready.map((age) => age.num_groups));
    const rows = ready.map((age, i) => {
      const older = i === ready.length - 1 && i > 0 ? " or older" : "";
      const share = age.num_groups / most;
      return [`${whole(age.staleness)}${older}`, bar(share, whole(age.num_groups))];
    });
    replace(
      this.queue,
      el("h2", {}, "Ready queue"),
      el(
        "p",
        { class: "quiet" },
        `${many(counts.num_ready_groups, "group")} to train on, ${bytes(counts.cargo_bytes)}, ` +
          `and ${whole(counts.num_training_groups)} at the trainer; ready and leased together at ` +
          `most ${whole(cap)}. Groups older than ${many(bound, "version")} are purged: ` +
          `${whole(counts.num_purged)} so far, and ${whole(counts.num_evicted)} evicted.`,
      ),
      table("Ready groups by staleness", ["Versions old", "Groups"], rows),
    );
  }

  showHealth(decisions, times, counts) {
    const kinds = [
      ["Draws", decisions.num_draws],
      ["Reports", decisions.num_reports],
      ["Releases", decisions.num_releases],
      ["Expiries", decisions.num_expiries],
    ];
    const most = Math.max(1, ...kinds.map(([, num]) => num));
    const rows = kinds.map(([name, num]) => [name, bar(num / most, whole(num))]);
    const span = decisions.num_decisions
      ? `Of the newest ${whole(decisions.num_decisions)} decisions, since ` +
        `${ago(decisions.since_ms)}. `
      : "No decision has been stored yet. ";
    const gaps = times.slice(1).map((time, i) => (Date.parse(time) - Date.parse(times[i])) / 1000);
    gaps.sort((a, b) => a - b);
    const pace = gaps.length
      ? `A version takes ${seconds(gaps[Math.floor(gaps.length / 2)])} in the middle of the ` +
        `newest ${whole(gaps.length)}; the last was announced ${ago(Date.parse(times.at(-1)))}.`
      : "Fewer than two versions have been announced.";
    const expired = `${many(counts.num_expired, "task")} came back from expired leases so far. `;
    replace(
      this.health,
      el("h2", {}, "Lease health"),
      el("p", { class: "quiet" }, span + expired + pace),
      table("Newest decisions", ["Kind", "Number"], rows),
    );
  }

  showWorkers(workers, num, newest) {
    const rows = workers.map((worker) => [
      worker.worker,
      whole(worker.num_leases),
      whole(worker.num_left),
      behind(worker.policy_version, newest),
    ]);
    const cut = num > workers.length ? ` The first ${whole(workers.length)} are shown.` : "";
    const heads = ["Worker", ["Leases", "n"], ["Tasks left", "n"], ["Policy version", "n"]];
    const none = "No worker holds a lease now.";
    replace(
      this.workers,
      el("h2", {}, "Workers"),
      el("p", { class: "quiet" }, `${many(num, "worker")} with a lease.${cut}`),
      rows.length ? table("Workers with leases", heads, rows) : el("p", {}, none),
    );
  }

  showLeases(leases, num) {
    const heads = [
      "Lease",
      "Kind",
      "Holder",
      ["Left", "n"],
      ["Policy version", "n"],
      "Time left",
      "Heartbeat",
    ];
    const rows = leases.map((lease) => {
      const share = Math.max(0, Math.min(1, lease.remaining_ms / lease.ttl_ms));
      const left = lease.remaining_ms < 0 ? "over" : seconds(lease.remaining_ms / 1000);
      return [
        el("code", { title: lease.id }, brief(lease.id)),
        lease.kind,
        lease.worker ?? "trainer",
        whole(lease.num_left),
        whole(lease.policy_version),
        bar(share, left, { tone: share < SOON ? "warn" : "accent" }),
        lease.is_extended ? "yes" : "not yet",
      ];
    });
    const soon = leases.filter((lease) => lease.remaining_ms < SOON * lease.ttl_ms).length;
    const told =
      `${many(num, "live lease")}, ${whole(soon)} of the shown with less than ` +
      `${percent(SOON, 0)} of their time left.`;
    replace(
      this.leases,
      el("h2", {}, "Leases"),
      el("p", { class: "quiet" }, told),
      rows.length ? table("Live leases, those that end first", heads, rows) : null,
    );
  }

  close() {}
}
