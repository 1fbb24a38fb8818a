/**
 * Control arm against curriculum: figures with 95 % intervals, over the newest versions and in
 * all, and which differences are more than chance. Neighbours: `summary.js` shows it.
 */

// @reads view: CurriculumView
// @reads arms: ArmsView
// @reads figures: ArmFigures
// @reads one: Interval

import { bar, el, replace, table } from "./dom.js";
import { fixed, many, percent, whole } from "./format.js";

const SHARES = ["informative_share", "success_rate"];
const NAMES = {
  informative_share: "informative groups",
  success_rate: "success",
  mean_reward: "reward",
  reward_per_1k_tokens: "reward per 1,000 tokens",
};
const HEADS = [
  "Arm",
  "Informative groups",
  ["95 % interval", "n"],
  ["Groups", "n"],
  ["Success", "n"],
  ["Reward", "n"],
  ["Reward per 1,000 tokens", "n"],
];
const HELP =
  "By how their task was drawn, un-scaffolded groups only. Both arms train one policy: this " +
  "compares tasks; what the curriculum changes, two forks tell (etude runs compare).";

const number = (name, value) => (SHARES.includes(name) ? percent(value) : fixed(value));

/** `12.3 % (10.1 to 14.5 %)`, or what is known of it. */
function withInterval(name, one) {
  if (one.low === null) return number(name, one.mean);
  return `${number(name, one.mean)} (${number(name, one.low)} to ${number(name, one.high)})`;
}

function row(label, tone, figures) {
  const one = figures.informative_share;
  const span = { tone, low: one.low, high: one.high };
  return [
    label,
    bar(one.mean, percent(one.mean), span),
    one.low === null ? null : `${percent(one.low)} to ${percent(one.high)}`,
    whole(figures.num_groups),
    withInterval("success_rate", figures.success_rate),
    withInterval("mean_reward", figures.mean_reward),
    withInterval("reward_per_1k_tokens", figures.reward_per_1k_tokens),
  ];
}

/** Which differences are more than chance, in a sentence. */
function verdict(gap) {
  const clear = Object.keys(NAMES).filter((name) => gap[name].low > 0 || gap[name].high < 0);
  if (!clear.length) return "Curriculum less control: no difference is more than chance.";
  const parts = clear.map((name) => `${NAMES[name]} ${withInterval(name, gap[name])}`);
  return `Curriculum less control, more than chance: ${parts.join("; ")}.`;
}

function part(title, arms) {
  const rows = [
    row("control (uniform)", "plain", arms.control),
    row("curriculum", "accent", arms.curriculum),
  ];
  const told = el("p", { class: "quiet" }, verdict(arms.gap));
  return [table(title, HEADS, rows, { seen: true }), told];
}

/** Fill a node with both arms of a view; an older sampler has none to show. */
export function showArms(node, view) {
  const arms = view.arms_recent;
  const recent =
    arms && arms.num_versions && arms.num_versions < view.policy_version
      ? part(`The newest ${many(arms.num_versions, "version")}`, arms)
      : [];
  replace(
    node,
    el("h3", {}, "Control arm against curriculum"),
    el("p", { class: "quiet" }, HELP),
    ...(view.arms_overall ? part("The whole run", view.arms_overall) : []),
    ...recent,
  );
}
