// Moments in the reader's own time, and durations that go on while one looks.

import { ago, duration, moment, secondsSince } from "./format.js";
import { setText } from "./dom.js";

/** Show every `<time datetime>` below `root` in the reader's time; of class `ago` as how long ago it was. */
export function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const iso = time.getAttribute("datetime");
    if (time.classList.contains("ago")) time.title = moment(iso);
    setText(time, time.classList.contains("ago") ? ago(iso) : moment(iso));
  }
  for (const running of root.querySelectorAll("[data-since]")) {
    setText(running, duration(Math.floor(secondsSince(running.dataset.since))));
  }
}

/** Let durations and ages on the page go on. */
export function tick() {
  setInterval(() => {
    if (!document.hidden) showTimes(document);
  }, 1000);
}
