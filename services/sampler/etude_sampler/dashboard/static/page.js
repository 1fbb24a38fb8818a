/**
 * The page: which view the address asks for, the poller behind it, the state of the connection,
 * the bearer key. Neighbours: the views, see the routes.
 */

import { readKey, writeKey } from "./api.js";
import { CompareView } from "./compare.js";
import { el, setText } from "./dom.js";
import { FlowView } from "./flow.js";
import { clock } from "./format.js";
import { Poller } from "./poll.js";
import { RunView } from "./run.js";
import { RunsView } from "./runs.js";
import { SpreadView } from "./spread.js";
import { OneTaskView } from "./task.js";
import { TaskListView } from "./tasks.js";

const ROUTES = [
  [/^#\/compare\/([^/]+)\/([^/]+)$/, CompareView],
  [/^#\/runs\/([^/]+)\/tasks\/([^/]+)$/, OneTaskView],
  [/^#\/runs\/([^/]+)\/tasks(?:\?.*)?$/, TaskListView],
  [/^#\/runs\/([^/]+)\/spread$/, SpreadView],
  [/^#\/runs\/([^/]+)\/flow$/, FlowView],
  [/^#\/runs\/([^/]+)$/, RunView],
  [/^(#\/?)?$/, RunsView],
];
const byId = (id) => document.getElementById(id);
const main = byId("main");
const status = byId("status");
const poller = new Poller(showState);
const notice = el("p", { class: "notice", role: "alert", hidden: true });
let view = null;
let readAt = null; // when the shown view was last read, in ms since 1970

/** A part of an address without its escapes; one that is malformed is taken as it is. */
function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The view of an address, or null if there is none. */
function viewOf(hash) {
  for (const [pattern, View] of ROUTES) {
    const found = pattern.exec(hash);
    if (found) return new View(() => poller.now(), ...found.slice(1).map(plain));
  }
  return null;
}

function navigate(event) {
  const next = viewOf(location.hash);
  if (!next) {
    location.replace("#/");
    return;
  }
  view?.close();
  view = next;
  readAt = null;
  notice.hidden = true;
  main.dataset.at = location.hash;
  view.node.className = "pending"; // nothing but its heading until the first answer
  main.replaceChildren(notice, view.node);
  if (event) {
    scrollTo(0, 0);
    main.querySelector("h1").focus({ preventScroll: true });
  }
  poller.follow(read, view.everyS);
}

async function read(signal) {
  const shown = view;
  await shown.read(signal);
  readAt = Date.now();
  shown.node.className = "";
  const title = `${shown.title} · Etude`;
  if (document.title !== title) document.title = title;
}

/** Say how live the page is; texts change only with the state, so that they are read out once. */
function showState(state, error, waitS) {
  const texts = {
    loading: "Reading …",
    live: "Live",
    paused: "Paused",
    hidden: "Paused",
    failing: "Not live",
  };
  status.className = `status ${state}`;
  setText(status, texts[state]);
  if (state === "failing") showFault(error, waitS);
  else if (state === "live") notice.hidden = true;
  if (readKey()) setText(byId("key"), "Forget the key");
  byId("key").hidden = !readKey() && error?.status !== 401;
}

function showFault(error, waitS) {
  view.node.classList.add("failed");
  if (error.status === 401) {
    setText(byId("key"), "Enter a key");
    ask();
  }
  const next = waitS === null ? "" : " The page tries again by itself.";
  const old = readAt === null ? "" : ` What is shown is of ${clock(readAt)}.`;
  const why = faultOf(error);
  setText(notice, `${why.replace(/[.\s]*$/, ".")}${old}${next}`);
  notice.hidden = false;
}

/** A refusal, silence (the browser's errors), or a mistake of this page, which is not hidden. */
function faultOf(error) {
  if (error.status === 401) return "The sampler asks for a key.";
  if (error.status) return `The sampler says: ${error.message}`;
  const silent = error.name === "TimeoutError" || error.name === "AbortError";
  if (silent || (error instanceof TypeError && /fetch|network|load failed/i.test(error.message))) {
    return "The sampler does not answer.";
  }
  console.error(error);
  return `This page made a mistake: ${error.message}`;
}

function ask() {
  const dialog = byId("ask");
  setText(byId("ask-fault"), readKey() ? "The sampler does not accept that key." : "");
  writeKey("");
  byId("ask-key").value = "";
  if (!dialog.open) dialog.showModal();
}

byId("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  writeKey(byId("ask-key").value.trim());
  byId("ask").close();
  poller.now();
});
byId("ask-later").addEventListener("click", () => byId("ask").close());
byId("key").addEventListener("click", () => {
  writeKey("");
  poller.now(); // a sampler that wants a key refuses this, and the page asks
});
byId("pause").addEventListener("click", (event) => {
  const paused = event.currentTarget.getAttribute("aria-pressed") !== "true";
  event.currentTarget.setAttribute("aria-pressed", String(paused));
  poller.setPaused(paused);
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the route
  main.focus();
});
addEventListener("hashchange", navigate);
navigate();
