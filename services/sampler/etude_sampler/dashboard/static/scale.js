/** Arithmetic of charts: round ticks, scales, paths. Pure functions; `chart.js` draws. */

/** About `count` round values that cover `low` to `high`, both ends included. */
export function ticks(low, high, count) {
  if (high <= low) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)),
  );
}

/** Whole ticks inside `low` to `high`, for versions. */
export function wholeTicks(low, high, count) {
  const step = Math.max(1, Math.ceil((high - low) / Math.max(1, count)));
  const power = 10 ** Math.floor(Math.log10(step));
  const nice = power * [1, 2, 5, 10].find((factor) => factor * power >= 0.75 * step);
  const found = [];
  for (let at = Math.ceil(low / nice) * nice; at <= high; at += nice) found.push(at);
  return found;
}

/** Smallest and largest value that occurs in the series or their bands; null: there is none. */
export function extent(series) {
  let low = Infinity;
  let high = -Infinity;
  for (const one of series) {
    for (const value of [...one.values, ...(one.low ?? []), ...(one.high ?? [])]) {
      if (value === null) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  return low <= high ? [low, high] : null;
}

/** SVG path around the points between two edges; a point without both breaks it. */
export function band(low, high) {
  let text = "";
  let begin = -1;
  for (let i = 0; i <= low.length; i += 1) {
    const open = i < low.length && low[i] !== null && high[i] !== null;
    if (open && begin < 0) begin = i;
    if (open || begin < 0) continue;
    const top = high.slice(begin, i);
    const bottom = low.slice(begin, i).reverse();
    const at = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;
    text += `M${[...top, ...bottom].map(at).join("L")}Z`;
    begin = -1;
  }
  return text;
}

/** SVG path through points `[x, y]`; null breaks the line, a lone point becomes a dot. */
export function path(points) {
  let text = "";
  points.forEach((point, i) => {
    if (point === null) return;
    const [x, y] = point.map((value) => value.toFixed(1));
    const before = i > 0 && points[i - 1] !== null;
    const after = i + 1 < points.length && points[i + 1] !== null;
    text += before ? `L${x} ${y}` : `M${x} ${y}`;
    if (!before && !after) text += "h0.01";
  });
  return text;
}

/** Heights moved apart to at least `gap`, in the order given, kept within `low` to `high`. */
export function spread(heights, gap, low, high) {
  const order = heights.map((_, i) => i).sort((a, b) => heights[a] - heights[b]);
  const placed = [...heights];
  let floor = low;
  for (const i of order) {
    placed[i] = Math.max(placed[i], floor);
    floor = placed[i] + gap;
  }
  let ceiling = high;
  for (const i of order.reverse()) {
    placed[i] = Math.min(placed[i], ceiling);
    ceiling = placed[i] - gap;
  }
  return placed;
}
