// The panel of a task's output: which attempt, which streams, wrapped or not, followed or not.

import { notify } from "../api.js";
import { byId, setText } from "../dom.js";
import { count } from "../format.js";
import { Screen } from "./screen.js";
import { LiveOutput, storedTail } from "./stream.js";

const STREAMS = ["stdout", "stderr"];

export class OutputPanel {
  #taskId;
  #onNews;
  #screen;
  #live = null;
  #state = null;
  /** The attempt that is shown alone; null: the latest one, and those after it. */
  #chosen = null;
  #loading = 0;

  /** `onNews()` is called when the output's connection tells that the task has changed. */
  constructor(taskId, onNews) {
    this.#taskId = taskId;
    this.#onNews = onNews;
    this.#screen = new Screen(byId("output"), {
      onCut: () => (byId("output-cut").hidden = false),
      onFollow: (isFollowing) => this.#showFollow(isFollowing),
    });
    byId("follow").addEventListener("change", (event) => this.#screen.follow(event.target.checked));
    byId("wrap").addEventListener("change", (event) => byId("output").classList.toggle("unwrapped", !event.target.checked));
    byId("jump").addEventListener("click", () => this.#screen.follow(true));
    byId("attempt").addEventListener("change", (event) => this.#choose(Number(event.target.value)));
    byId("streams").addEventListener("change", (event) => {
      byId("output").dataset.show = event.target.value;
      this.#screen.toEnd();
    });
  }

  /** Take where the task stands: {status, attempt, isEnded}. */
  take(state) {
    const before = this.#state;
    this.#state = state;
    this.#showAttempts();
    if (this.#chosen !== null && this.#chosen !== state.attempt) return;
    const isNew = before === null || before.isEnded !== state.isEnded || before.attempt !== state.attempt;
    if (isNew) this.#showLatest();
    this.#showState();
  }

  #showLatest() {
    const { attempt, isEnded } = this.#state;
    if (!isEnded) this.#follow();
    // What was followed to its end stands there already, in the order in which it came.
    else if (this.#live === null || this.#live.attempt !== attempt) this.#load(attempt);
  }

  #choose(number) {
    this.#drop();
    this.#chosen = number === this.#state.attempt ? null : number;
    if (this.#chosen === null) this.#showLatest();
    else this.#load(number);
    this.#showState();
  }

  #follow() {
    if (this.#live !== null) {
      this.#live.resume();
      return;
    }
    this.#clear(0);
    this.#live = new LiveOutput(this.#taskId, {
      output: (stream, text) => {
        this.#screen.write(stream, text);
        setText(byId("output-state"), "");
      },
      gap: (_, missing) => this.#screen.note(`${count(missing)} bytes were not kept.`),
      attempt: (number, before) => {
        if (before) this.#screen.note(`Attempt ${number} begins.`);
        this.#link(number);
        this.#onNews();
      },
      status: this.#onNews,
      end: this.#onNews,
      state: (text) => setText(byId("output-connection"), text),
    });
  }

  #drop() {
    this.#live?.close();
    this.#live = null;
  }

  async #load(attempt) {
    this.#drop();
    this.#clear(attempt);
    if (!attempt) return;
    const ticket = this.#loading;
    try {
      const row = document.querySelector(`tr[data-attempt="${attempt}"]`);
      const sizes = { stdout: row?.dataset.stdoutBytes ?? Infinity, stderr: row?.dataset.stderrBytes ?? Infinity };
      const tails = await Promise.all(STREAMS.map((stream) => storedTail(this.#taskId, attempt, stream, Number(sizes[stream]))));
      if (ticket !== this.#loading) return;
      tails.forEach(({ text, bytesBefore }, place) => {
        if (bytesBefore) byId("output-cut").hidden = false;
        // The last line has ended, whether the command said so or not.
        this.#screen.put(STREAMS[place], !text || text.endsWith("\n") ? text : `${text}\n`);
      });
      this.#showState();
    } catch (error) {
      notify(error.message, "bad");
    }
  }

  #clear(attempt) {
    this.#loading += 1;
    this.#screen.clear();
    byId("output-cut").hidden = true;
    setText(byId("output-connection"), "");
    this.#link(attempt);
  }

  /** Let the downloads be those of an attempt, of the latest one when it is 0. */
  #link(attempt) {
    for (const link of document.querySelectorAll("a[data-stream]")) {
      link.href = `/api/v1/tasks/${this.#taskId}/${link.dataset.stream}${attempt ? `?attempt=${attempt}` : ""}`;
    }
  }

  #showAttempts() {
    const select = byId("attempt");
    const { attempt } = this.#state;
    select.closest("label").hidden = attempt < 2;
    const numbers = Array.from({ length: attempt }, (_, place) => attempt - place).slice(0, 100);
    if (select.options.length === numbers.length && select.options[0]?.value === String(attempt)) return;
    const text = (number) => (number === attempt ? `${number} (latest)` : String(number));
    select.replaceChildren(...numbers.map((number) => new Option(text(number), number)));
    select.value = String(this.#chosen ?? attempt);
  }

  #showState() {
    const { status, attempt, isEnded } = this.#state;
    let text = "";
    if (this.#screen.isEmpty) {
      if (this.#chosen !== null || isEnded) text = attempt ? "The command printed nothing." : "The command never ran.";
      else text = status === "queued" ? "Waiting for a worker. Output appears here as the command prints it." : "Running; nothing printed yet.";
    }
    setText(byId("output-state"), text);
  }

  #showFollow(isFollowing) {
    byId("follow").checked = isFollowing;
    byId("jump").hidden = isFollowing;
  }
}
