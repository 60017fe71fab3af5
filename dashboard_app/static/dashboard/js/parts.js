// Brings a page up to date with what the server renders now: its words stand in one place, the templates.

import { byId } from "./dom.js";
import { showTimes } from "./times.js";

const LEAST_PAUSE_MS = 2000;
/** The page may be asked for again after this many times as long as the last answer took. */
const PAUSE_RATIO = 10;

/** Asks for the page at most each two seconds, and gives it as a document to `take(fresh)`. */
export class PageFetch {
  #take;
  #isForHidden;
  #timer = null;
  #isFetching = false;
  #isAskedAgain = false;
  #nextAt = 0;
  #asked = 0;
  #taken = 0;

  /** With `isForHidden` it asks while nobody sees the page, too. */
  constructor(take, { isForHidden = true } = {}) {
    this.#take = take;
    this.#isForHidden = isForHidden;
  }

  /** Ask soon. */
  ask() {
    if (this.#isFetching) this.#isAskedAgain = true;
    else if (this.#timer === null) {
      this.#timer = setTimeout(() => this.#due(), Math.max(0, this.#nextAt - performance.now()));
    }
  }

  #due() {
    this.#timer = null;
    if (document.hidden && !this.#isForHidden) document.addEventListener("visibilitychange", () => this.ask(), { once: true });
    else this.now().catch(() => {});
  }

  /** Ask now; throws when the server cannot be reached. */
  async now() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#isFetching = true;
    const startedAt = performance.now();
    try {
      await this.#fetch();
    } finally {
      this.#isFetching = false;
      const tookMs = performance.now() - startedAt;
      this.#nextAt = performance.now() + Math.max(LEAST_PAUSE_MS, PAUSE_RATIO * tookMs);
      if (this.#isAskedAgain) {
        this.#isAskedAgain = false;
        this.ask();
      }
    }
  }

  async #fetch() {
    this.#asked += 1;
    const number = this.#asked;
    const response = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin", cache: "no-store" });
    if (response.redirected) {
      location.reload();
      return;
    }
    if (!response.ok) return;
    const text = await response.text();
    // Two may be on their way at once, and the older one arrive last.
    if (number < this.#taken) return;
    this.#taken = number;
    this.#take(new DOMParser().parseFromString(text, "text/html"));
  }
}

/** Let buttons be pressed: the server sends them disabled, for before the script is there a click would be lost. */
function offerSteps(root) {
  for (const button of root.querySelectorAll("button[data-step]")) button.disabled = false;
}

/** Parts of the page with these ids, replaced when the server renders them otherwise; `after()` is called after that. */
export class Parts extends PageFetch {
  #known = new Map();

  constructor(ids, after = () => {}) {
    super((fresh) => {
      ids.forEach((id) => this.#replace(id, fresh.getElementById(id)));
      document.title = fresh.title;
      after();
    });
    ids.forEach((id) => this.#known.set(id, byId(id).outerHTML));
    showTimes(document);
    offerSteps(document);
  }

  #replace(id, part) {
    if (!part || part.outerHTML === this.#known.get(id)) return;
    this.#known.set(id, part.outerHTML);
    const before = byId(id);
    const focused = before.contains(document.activeElement) ? document.activeElement.id : "";
    const own = document.importNode(part, true);
    showTimes(own);
    offerSteps(own);
    before.replaceWith(own);
    if (focused) byId(focused)?.focus({ preventScroll: true });
  }
}
