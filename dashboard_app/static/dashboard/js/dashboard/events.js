// The newest events in words, newest first, with links to what they speak of.

import { byId, el, keyed, setText } from "../dom.js";
import { clock, moment } from "../format.js";

const SHOWN = 60;
const BAD = new Set(["login_failed", "permission_denied", "worker_refused", "enrol_refused", "token_reused", "outcome_refused"]);
let isFirst = true;

/** Show these events, oldest first as they came; names of tasks come from `tasks`, a map of rows by id. */
export function renderEvents(events, tasks) {
  const list = byId("events");
  if (isFirst) list.replaceChildren();
  isFirst = false;
  const groups = grouped(events).slice(-SHOWN).reverse();
  keyed(list, groups, ({ event }) => event.id, ({ event }) => line(event, tasks), update);
}

/** Join events that say the same one after the other: a list of a thousand tasks is one line. */
function grouped(events) {
  const groups = [];
  for (const event of events) {
    const last = groups.at(-1);
    if (last && last.event.event_type === event.event_type && last.event.text === event.text) last.times += 1;
    else groups.push({ event, times: 1 });
  }
  return groups;
}

function line(event, tasks) {
  const text = el("span", {}, ...linked(event));
  if (event.task_id) {
    const task = tasks.get(event.task_id);
    const name = task?.name || task?.command || event.task_id.slice(-8);
    text.append(" ", el("a", { class: "task-link", href: `/tasks/${encodeURIComponent(event.task_id)}/`, title: task?.command || event.task_id }, name));
  }
  text.append(el("span", { class: "times" }));
  return el("li", { class: BAD.has(event.event_type) ? "bad" : null }, el("time", { datetime: event.at, title: moment(event.at) }, clock(event.at)), text);
}

function update(item, { event, times }) {
  setText(item.querySelector(".times"), times === 1 ? "" : ` ${event.task_id ? `and ${times - 1} more` : `${times} times`}`);
}

/** Return the event's text with the worker's name as a link. */
function linked({ text, worker_id: workerId, worker_name: name }) {
  const place = workerId && name ? text.indexOf(name) : -1;
  if (place < 0) return [text];
  const link = el("a", { href: `/workers/${encodeURIComponent(workerId)}/` }, name);
  return [text.slice(0, place), link, text.slice(place + name.length)];
}
