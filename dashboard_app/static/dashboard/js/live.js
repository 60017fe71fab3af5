// The one WebSocket of a page: keeps what the cluster looks like now, and comes back by itself when it breaks.

import { byId } from "./dom.js";

const LONGEST_PAUSE_MS = 10000;
const FIRST_PAUSE_MS = 500;

/** What is known: `summary`, `workers` and `tasks` by id, the newest `events` (oldest first) and the last `point`. */
export const state = { summary: null, workers: new Map(), tasks: new Map(), events: [], point: null };

const KEPT_EVENTS = 100;
const listeners = [];
let pauseMs = FIRST_PAUSE_MS;
let waiting = null;

/** Call `listener(changed)` after each frame; `changed` is a set of: summary, workers, tasks, events, point. */
export function onChange(listener) {
  listeners.push(listener);
}

/** Open the socket; call once. */
export function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}/ws/events`);
  show("off", "Connecting…");
  socket.addEventListener("message", (message) => {
    const frame = JSON.parse(message.data);
    if (frame.type !== "state") return;
    pauseMs = FIRST_PAUSE_MS;
    show("on", "Live");
    const changed = take(frame);
    requestAnimationFrame(() => listeners.forEach((listener) => listener(changed)));
  });
  socket.addEventListener("close", (event) => {
    if (event.code === 4401 || event.code === 4403) {
      location.assign(`/login/?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    show("off", "Not connected, trying again…");
    waiting = setTimeout(connect, pauseMs * (0.5 + Math.random()));
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
  });
}

// A machine that comes back from sleep or to its network need not wait for the pause's end.
addEventListener("online", () => {
  if (waiting === null || !document.querySelector("#live-state.off")) return;
  clearTimeout(waiting);
  waiting = null;
  connect();
});

/** Put a frame into the state and return which parts it changed. */
export function take(frame) {
  const changed = new Set();
  if (frame.is_full) {
    state.workers.clear();
    state.tasks.clear();
    state.events = [];
    ["workers", "tasks", "events"].forEach((part) => changed.add(part));
  }
  if (frame.summary) {
    state.summary = frame.summary;
    changed.add("summary");
  }
  for (const part of ["workers", "tasks"]) {
    for (const [id, value] of Object.entries(frame[part] || {})) {
      if (value === null) state[part].delete(id);
      else state[part].set(id, value);
      changed.add(part);
    }
  }
  if (frame.events?.length) {
    state.events = [...state.events, ...frame.events].slice(-KEPT_EVENTS);
    changed.add("events");
  }
  if (frame.point) {
    state.point = frame.point;
    changed.add("point");
  }
  return changed;
}

function show(kind, text) {
  const sign = byId("live-state");
  if (!sign) return;
  sign.hidden = false;
  sign.className = `live ${kind}`;
  sign.textContent = text;
}
