/**
 * When to read again: every few seconds while the tab is seen, more slowly while the service does
 * not answer, never while paused. Neighbours: `page.js` owns the one poller and shows its state.
 */

const MOST_S = 30;

export class Poller {
  /**
   * `show(state, error)` is told `loading`, `live`, `paused`, `hidden` or `failing`; `failing`
   * comes with the error and `error.waitS`, the seconds until the next try (null: none).
   */
  constructor(show) {
    this.show = show;
    this.paused = false;
    this.round = 0;
    document.addEventListener("visibilitychange", () => this.wake());
  }

  /** Follow another view: `read(signal)` now and then every `everyS` seconds. */
  follow(read, everyS) {
    Object.assign(this, { read, everyS, failures: 0 });
    this.show("loading");
    this.now();
  }

  setPaused(paused) {
    this.paused = paused;
    this.wake();
  }

  wake() {
    if (!this.read) return;
    if (this.paused) this.stop("paused");
    else if (document.hidden) this.stop("hidden");
    else this.now();
  }

  stop(state) {
    this.round += 1;
    clearTimeout(this.timer);
    this.abort?.abort();
    this.show(state);
  }

  /** Read now, even when paused: a person asked for something that is not on the page yet. */
  async now() {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.abort = new AbortController();
    const round = (this.round += 1);
    let error = null;
    try {
      await this.read(this.abort.signal);
    } catch (caught) {
      error = caught;
    }
    if (round !== this.round) return; // overtaken by another view, or stopped
    this.failures = error ? this.failures + 1 : 0;
    if (!error && this.paused) {
      this.show("paused");
      return;
    }
    const waitS = error ? this.waitAfter(error) : this.everyS;
    this.show(error ? "failing" : "live", error, waitS);
    if (waitS !== null) this.timer = setTimeout(() => this.wake(), 1000 * waitS);
  }

  waitAfter(error) {
    const { status, retryAfterS } = error;
    if (status >= 400 && status < 500 && status !== 429) return null; // asking again cannot help
    return Math.min(
      MOST_S,
      Math.max(retryAfterS ?? 0, this.everyS * 2 ** Math.min(4, this.failures)),
    );
  }
}
