/** Numbers, times and ids as people read them. Null and undefined are an en dash: not known. */

const NONE = "–";
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { maximumFractionDigits: 1, notation: "compact" });
const TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** A count. */
export const whole = (value) => (known(value) ? WHOLE.format(value) : NONE);

/** A count of things: `1 lease`, `2 leases`. */
export const many = (value, thing) => `${whole(value)} ${thing}${value === 1 ? "" : "s"}`;

/** A large count, shortened: `12.3K`. */
export const short = (value) => (known(value) ? SHORT.format(value) : NONE);

/** A number with so many decimals. */
export const fixed = (value, digits = 3) => (known(value) ? value.toFixed(digits) : NONE);

/** A number of unknown size: four significant digits. */
export function loose(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

/** A share in [0, 1] as a percentage. */
export const percent = (value, digits = 1) =>
  known(value) ? `${(100 * value).toFixed(digits)} %` : NONE;

/** Bytes in binary units. */
export function bytes(value) {
  if (!known(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at += 1) value /= 1024;
  return `${at ? value.toFixed(1) : value} ${units[at]}`;
}

/** An RFC 3339 time in the reader's zone. */
export function when(text) {
  const at = Date.parse(text);
  return Number.isNaN(at) ? NONE : TIME.format(at);
}

/** `name_of_it` as a person writes it. */
export const words = (name) => String(name).replaceAll("_", " ");

/** The start of an id that is still easy to tell apart. */
export const brief = (id) => (id.length > 17 ? `${id.slice(0, 16)}…` : id);

/** A time span. */
export function seconds(value) {
  if (!known(value)) return NONE;
  if (value < 1) return `${Math.round(1000 * value)} ms`;
  if (value < 120) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}

/** How long ago a time was, in ms since 1970. */
export const ago = (at) =>
  known(at) ? `${seconds(Math.max(0, (Date.now() - at) / 1000))} ago` : NONE;

/** A time of today, in ms since 1970. */
export const clock = (at) => CLOCK.format(at);
