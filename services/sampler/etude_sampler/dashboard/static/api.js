/**
 * Reads the sampler's public API: bearer key, problem documents, history page by page.
 * Neighbours: `poll.js` decides when; the views decide what. Nothing here ever writes.
 */

// @reads problem: Problem
// @reads page: HistoryPage
// @reads point: HistoryPoint

const SLOT = "etude.key";
const TIMEOUT_MS = 15000;
const HISTORY_PAGE = 200;
let kept = "";

/** An answer that is not 2xx. */
export class ApiError extends Error {
  constructor(status, code, detail, retryAfterS) {
    super(detail);
    Object.assign(this, { status, code, retryAfterS });
  }
}

/** The bearer key of this tab, or an empty text. */
export function readKey() {
  try {
    return sessionStorage.getItem(SLOT) ?? "";
  } catch {
    return kept; // storage is blocked: the key lives as long as the page
  }
}

/** Keep a key for this tab; an empty one forgets it. */
export function writeKey(value) {
  kept = value;
  try {
    if (value) sessionStorage.setItem(SLOT, value);
    else sessionStorage.removeItem(SLOT);
  } catch {
    // kept in memory only
  }
}

async function refusal(response) {
  const retryAfterS = Number(response.headers.get("Retry-After")) || null;
  try {
    const problem = await response.json();
    return new ApiError(response.status, problem.code, problem.detail, retryAfterS);
  } catch {
    return new ApiError(response.status, "", response.statusText || "no reason given", retryAfterS);
  }
}

/**
 * One GET; the path is relative to the page, so that a proxy may serve it under a prefix.
 * Throws `ApiError` for a refusal, `TypeError` when nobody answers, `AbortError` when left.
 */
export async function get(path, query = {}, signal = undefined) {
  const url = new URL(path, new URL("./", document.baseURI));
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const headers = { Accept: "application/json" };
  if (readKey()) headers.Authorization = `Bearer ${readKey()}`;
  const limits = [AbortSignal.timeout(TIMEOUT_MS), signal].filter(Boolean);
  const response = await fetch(url, {
    headers,
    cache: "no-store",
    signal: AbortSignal.any(limits),
  });
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** The history of a run, oldest first, kept up to date by reading its last page again. */
export class History {
  constructor(runId) {
    this.path = `v1/runs/${encodeURIComponent(runId)}/history`;
    this.forget();
  }

  forget() {
    this.pages = [];
    this.cursors = [null];
  }

  /** All points so far. */
  get points() {
    return this.pages.flat();
  }

  get newest() {
    const point = this.points.at(-1);
    return point ? point.policy_version : -1;
  }

  /** Read on until the newest version; a run that went back to an older one is read anew. */
  async follow(version, signal) {
    if (this.newest > version) this.forget();
    if (this.newest === version) return;
    for (;;) {
      const at = Math.max(0, this.cursors.length - 1);
      const cursor = this.cursors[at];
      const page = await get(this.path, { limit: HISTORY_PAGE, cursor }, signal);
      this.pages[at] = page.items;
      if (!page.next_cursor) return;
      this.cursors.push(page.next_cursor);
    }
  }
}
