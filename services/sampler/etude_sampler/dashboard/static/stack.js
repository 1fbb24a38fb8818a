/** Shares piled up to a whole, as areas; otherwise a `LineChart`. Neighbours: `chart.js`. */

import { LineChart, toneClass } from "./chart.js";
import { svg } from "./dom.js";
import { band } from "./scale.js";

export class StackChart extends LineChart {
  /** Sum of the shown lines below one, and of it. */
  ends(one, i) {
    const before = this.shown.slice(0, this.shown.indexOf(one));
    const floor = before.reduce((sum, other) => sum + (other.values[i] ?? 0), 0);
    return [floor, floor + (one.values[i] ?? 0)];
  }

  height(one, i) {
    return i < 0 || one.values[i] === null ? null : this.ends(one, i)[1];
  }

  lines(one) {
    const place = (end) => (value, i) =>
      value === null ? null : [this.x(one.at[i]), this.y(this.ends(one, i)[end])];
    const d = band(one.values.map(place(0)), one.values.map(place(1)));
    return [svg("path", { class: `area ${toneClass(one)}`, d })];
  }
}
