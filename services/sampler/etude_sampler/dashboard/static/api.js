/**
 * Reads the sampler's public API: bearer key, problem documents, entity tags.
 * Neighbours: `poll.js` decides when; the views decide what. Nothing here ever writes.
 */

// @reads problem: Problem

const SLOT = "etude.key";
const TIMEOUT_MS = 15000;
const MOST_HELD = 40;
const held = new Map(); // the last answers by address: tag and body
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
  held.clear();
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
async function fetchPath(path, query, signal, headers) {
  const url = new URL(path, new URL("./", document.baseURI));
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const tag = held.get(url.href)?.tag;
  if (readKey()) headers.Authorization = `Bearer ${readKey()}`;
  if (tag) headers["If-None-Match"] = tag;
  const limits = [AbortSignal.timeout(TIMEOUT_MS), signal].filter(Boolean);
  const response = await fetch(url, {
    headers,
    cache: "no-store",
    signal: AbortSignal.any(limits),
  });
  if (!response.ok && response.status !== 304) throw await refusal(response);
  return { response, href: url.href };
}

/** JSON of a path; an answer that has not changed is not sent again. */
export async function get(path, query = {}, signal = undefined) {
  const headers = { Accept: "application/json" };
  const { response, href } = await fetchPath(path, query, signal, headers);
  if (response.status === 304) return held.get(href).body;
  const body = await response.json();
  const tag = response.headers.get("ETag");
  held.delete(href);
  if (tag) held.set(href, { tag, body });
  if (held.size > MOST_HELD) held.delete(held.keys().next().value);
  return body;
}

/** Bytes of a path. */
export async function getBytes(path, signal = undefined) {
  const headers = { Accept: "application/vnd.safetensors, application/problem+json" };
  const { response } = await fetchPath(path, {}, signal, headers);
  return response.arrayBuffer();
}

/** Path of a run's data. */
export const runPath = (runId) => `v1/runs/${encodeURIComponent(runId)}`;

/** Address of a run's view on this page. */
export const runHref = (runId, rest = "") => `#/runs/${encodeURIComponent(runId)}${rest}`;
