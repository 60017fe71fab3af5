// The terminal of a task: both streams in one list of lines, drawn in frames, never more than the page can hold.
//
// Each stream has one unfinished line. It stays whole, and moves to the end when it goes on, so that two streams that
// write at once do not tear each other's lines. Lines stand in blocks, so that forgetting the oldest costs one removal
// and the browser lays out only blocks that are seen.

import { Ansi, nodesOf } from "../ansi.js";
import { el } from "../dom.js";
import { bytes } from "../format.js";

const MOST_LINES = 20000;
const MOST_CHARACTERS = 2 << 20;
const LINES_OF_BLOCK = 200;
const CHARACTERS_OF_BLOCK = 64 << 10;
/** What may wait to be drawn, and what is left of it when that is too much. */
const MOST_WAITING = 512 << 10;
const LEFT_WAITING = 128 << 10;
const SLICE = 4 << 10;
/** How long drawing may take of a frame; less, while the browser's own part of it takes long. */
const MOST_DRAWING_MS = 8;
const LEAST_DRAWING_MS = 1;
const FRAME_MS = 16;
const NEAR_END_PX = 24;

export class Screen {
  #view;
  #onCut;
  #onFollow;
  #waiting = [];
  #waitingLength = 0;
  #isScheduled = false;
  #blocks = [];
  #lines = 0;
  #characters = 0;
  #streams = new Map();
  #lastTop = 0;
  #isFollowing = true;
  #drawingMs = MOST_DRAWING_MS;

  /** `onCut()` is called when the page has let go of output, `onFollow(isFollowing)` when the reader scrolls off or back. */
  constructor(view, { onCut, onFollow }) {
    this.#view = view;
    this.#onCut = onCut;
    this.#onFollow = onFollow;
    view.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#isFollowing && this.toEnd()).observe(view);
  }

  get isEmpty() {
    return this.#lines === 0 && this.#waiting.length === 0;
  }

  /** Show text of a stream, soon; leave some out when more comes than can be drawn. */
  write(stream, text) {
    this.put(stream, text);
    if (this.#waitingLength > MOST_WAITING) this.#skip();
  }

  /** Show all of a text. */
  put(stream, text) {
    if (!text) return;
    this.#waiting.push({ stream, text });
    this.#waitingLength += text.length;
    this.#schedule();
  }

  /** Show a line of the page's own between the output. */
  note(text) {
    this.#waiting.push({ stream: null, text });
    this.#schedule();
  }

  clear() {
    this.#waiting = [];
    this.#waitingLength = 0;
    this.#blocks = [];
    this.#lines = 0;
    this.#characters = 0;
    this.#streams.clear();
    this.#view.replaceChildren();
    this.#lastTop = 0;
  }

  get isFollowing() {
    return this.#isFollowing;
  }

  /** Keep the end in sight, or stop doing so. */
  follow(isOn) {
    if (isOn) this.toEnd();
    if (isOn === this.#isFollowing) return;
    this.#isFollowing = isOn;
    this.#onFollow(isOn);
  }

  toEnd() {
    this.#view.scrollTop = this.#view.scrollHeight;
    this.#lastTop = this.#view.scrollTop;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#view;
    const isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (isAtEnd) this.follow(true);
    else if (scrollTop < this.#lastTop - 2) this.follow(false);
    this.#lastTop = scrollTop;
  }

  /** Leave out what came faster than it can be drawn: the newest is what matters. */
  #skip() {
    let skipped = 0;
    while (this.#waitingLength > LEFT_WAITING && this.#waiting.length > 1) {
      const { stream, text, skippedBefore = 0 } = this.#waiting.shift();
      skipped += stream === null ? skippedBefore : text.length;
      if (stream !== null) this.#waitingLength -= text.length;
    }
    const text = `${bytes(skipped)} left out here: they came faster than a page can show. The download has all.`;
    this.#waiting.unshift({ stream: null, skippedBefore: skipped, text });
    this.#onCut();
  }

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#isScheduled = false;
    const startedAt = performance.now();
    const stopAt = startedAt + this.#drawingMs;
    const touched = new Set();
    while (this.#waiting.length && performance.now() < stopAt) {
      const item = this.#waiting[0];
      if (item.stream === null) {
        this.#waiting.shift();
        this.#append(el("div", { class: "line note" }, item.text), item.text.length);
        continue;
      }
      const piece = item.text.slice(0, SLICE);
      item.text = item.text.slice(SLICE);
      if (!item.text) this.#waiting.shift();
      this.#waitingLength -= piece.length;
      touched.add(this.#take(item.stream, piece));
    }
    touched.forEach((stream) => this.#showOpen(stream));
    this.#forget();
    if (this.#isFollowing) this.toEnd();
    // Scrolling has laid the page out, so that this counts it.
    const tookMs = performance.now() - startedAt;
    this.#drawingMs = tookMs > FRAME_MS ? Math.max(LEAST_DRAWING_MS, this.#drawingMs / 2) : Math.min(MOST_DRAWING_MS, this.#drawingMs + 0.5);
    if (this.#waiting.length) this.#schedule();
  }

  #take(name, text) {
    let stream = this.#streams.get(name);
    if (!stream) {
      stream = { name, ansi: new Ansi(), open: null };
      this.#streams.set(name, stream);
    }
    for (const runs of stream.ansi.write(text)) {
      const line = stream.open;
      stream.open = null;
      if (line) this.#moveToEnd(line);
      this.#fill(line ?? this.#newLine(name), runs);
    }
    return stream;
  }

  /** Bring a stream's unfinished line up to date, once a frame. */
  #showOpen(stream) {
    const runs = stream.ansi.open;
    if (!runs.length && !stream.open) return;
    if (stream.open) this.#moveToEnd(stream.open);
    else stream.open = this.#newLine(stream.name);
    this.#fill(stream.open, runs);
  }

  #newLine(name) {
    const line = el("div", { class: `line ${name}` });
    this.#append(line, 0);
    return line;
  }

  #fill(line, runs) {
    line.replaceChildren(...nodesOf(runs));
    const block = this.#blocks[this.#blocks.length - 1];
    const length = line.textContent.length;
    block.characters += length;
    this.#characters += length;
    // An empty line has no height of its own.
    if (!length) line.append(document.createElement("br"));
  }

  #append(line, length) {
    let block = this.#blocks[this.#blocks.length - 1];
    if (!block || block.lines >= LINES_OF_BLOCK || block.characters >= CHARACTERS_OF_BLOCK) {
      block = { element: el("div", { class: "block" }), lines: 0, characters: 0 };
      this.#blocks.push(block);
      this.#view.append(block.element);
    }
    block.element.append(line);
    block.lines += 1;
    block.characters += length;
    this.#lines += 1;
    this.#characters += length;
  }

  #moveToEnd(line) {
    const { element } = this.#blocks[this.#blocks.length - 1];
    if (element.lastChild !== line) element.append(line);
  }

  #forget() {
    let hasCut = false;
    while (this.#blocks.length > 1 && (this.#lines > MOST_LINES || this.#characters > MOST_CHARACTERS)) {
      const block = this.#blocks.shift();
      block.element.remove();
      this.#lines -= block.lines;
      this.#characters -= block.characters;
      hasCut = true;
    }
    if (hasCut) this.#onCut();
  }
}
