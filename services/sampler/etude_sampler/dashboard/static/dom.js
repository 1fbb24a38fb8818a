/**
 * Making and changing elements. Text from the API only ever becomes text nodes, never markup.
 * Neighbours: every view builds with `el`; `format.js` makes the texts.
 */

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element; attributes named `onevent` are listeners. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Replace the children of `node`; the focus stays on the element with the same `data-key`. */
export function replace(node, ...children) {
  const held = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  node.replaceChildren(...children.flat().filter((child) => child !== null));
  if (!held) return;
  const again = node.querySelector(`[data-key="${CSS.escape(held)}"]`);
  if (again) again.focus({ preventScroll: true });
}

/** Set a text only if it differs, so that screen readers and selections are left alone. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A function that calls `draw(value)` only when the value, as JSON, has changed. */
export function whenChanged(draw) {
  let last;
  return (...values) => {
    const now = JSON.stringify(values);
    if (now === last) return;
    last = now;
    draw(...values);
  };
}

/**
 * A table that scrolls sideways, by keyboard, too. `heads` are texts, or `[text, kind]` with kind
 * `n` (numbers), `text` (may be narrow) or `wrap` (may be wide); a cell is a text, a node or null.
 * The first cell of a row is its header. The caption is for screen readers only, unless `seen`.
 */
export function table(caption, heads, rows, { seen = false } = {}) {
  const columns = heads.map((head) => (Array.isArray(head) ? head : [head, null]));
  const line = (cells) =>
    el(
      "tr",
      {},
      cells.map((cell, i) => {
        const attributes = { class: columns[i][1], scope: i === 0 ? "row" : null };
        return el(i === 0 ? "th" : "td", attributes, cell ?? "–");
      }),
    );
  const names = columns.map(([name, kind]) => el("th", { scope: "col", class: kind }, name));
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption, "data-key": caption },
    el(
      "table",
      {},
      el("caption", { class: seen ? "quiet" : "unseen" }, caption),
      el("thead", {}, el("tr", {}, names)),
      el("tbody", {}, rows.map(line)),
    ),
  );
}

/** A horizontal bar for a share in [0, 1], beside its text; `low` and `high` draw an interval. */
export function bar(share, text, { tone = "accent", low = null, high = null } = {}) {
  if (share === null || share === undefined) return el("span", { class: "bar-cell" }, "–");
  const percent = (value) => `${100 * Math.min(1, Math.max(0, value))}%`;
  const part = el("span", { class: `bar-fill ${tone}` });
  part.style.width = percent(share);
  const track = el("span", { class: "bar", "aria-hidden": "true" }, part);
  if (low !== null && high !== null) {
    const span = el("span", { class: "bar-interval" });
    span.style.left = percent(low);
    span.style.width = percent(high - low);
    track.append(span);
  }
  return el("span", { class: "bar-cell" }, track, el("span", {}, text));
}
