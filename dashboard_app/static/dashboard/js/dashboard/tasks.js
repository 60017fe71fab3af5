// What runs and waits, with ages that tick, and what has ended, which flashes once when it does.

import { act, post } from "../api.js";
import { byId, el, keyed, setText } from "../dom.js";
import { age, ago, count, duration, kindOf, secondsSince } from "../format.js";

const SHOWN_NOW = 15;
const SHOWN_ENDED = 12;
const NEW_S = 10;
const rows = new WeakMap();
const statuses = new Map();
let isFirst = true;

const ENDED = new Set(["completed", "failed", "cancelled"]);
const path = (task) => `/tasks/${encodeURIComponent(task.id)}/`;

/** Show these tasks, a map of rows by id. */
export function renderTasks(tasks) {
  if (isFirst) ["now", "ended"].forEach((id) => byId(id).replaceChildren());
  const all = [...tasks.values()];
  const running = all.filter((task) => task.status === "running").sort(by("started_at"));
  const queued = all.filter((task) => task.status === "queued").sort((one, other) => other.priority - one.priority || compare(one.id, other.id));
  const ended = all.filter((task) => ENDED.has(task.status)).sort(by("completed_at")).reverse();
  const now = [...running, ...queued];
  keyed(byId("now"), now.slice(0, SHOWN_NOW), (task) => task.id, makeNow, updateNow);
  keyed(byId("ended"), ended.slice(0, SHOWN_ENDED), (task) => task.id, makeEnded, updateEnded);
  byId("now-table").hidden = now.length === 0;
  byId("nothing-now").hidden = now.length > 0;
  byId("ended-table").hidden = ended.length === 0;
  byId("no-tasks").hidden = all.length > 0;
  keepHeight(byId("now").closest(".panel"));
  setText(byId("now-count"), now.length > SHOWN_NOW ? `the first ${count(SHOWN_NOW)}` : "");
  statuses.clear();
  all.forEach((task) => statuses.set(task.id, task.status));
  isFirst = false;
}

/** Let the ages go on; call each second. */
export function tickTasks() {
  for (const id of ["now", "ended"]) for (const row of byId(id).children) rows.get(row).tick();
}

/** Let the panel grow only: what stands below it would jump with every task that comes and goes. */
function keepHeight(panel) {
  const height = panel.offsetHeight;
  if (height > (Number.parseFloat(panel.style.minHeight) || 0)) panel.style.minHeight = `${height}px`;
}

const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
const by = (name) => (one, other) => compare(one[name] || "", other[name] || "") || compare(one.id, other.id);

function taskLink() {
  return el("a", { class: "clip" });
}

function updateLink(link, task) {
  link.href = path(task);
  setText(link, task.name || task.command);
  link.classList.toggle("mono", !task.name);
  link.title = task.command;
}

function updateWorker(cell, task) {
  if (cell.dataset.worker === String(task.worker_id)) return;
  cell.dataset.worker = task.worker_id;
  const isOperator = document.body.dataset.isOperator === "1";
  const name = task.worker_name || "";
  cell.replaceChildren(isOperator && name ? el("a", { href: `/workers/${encodeURIComponent(task.worker_id)}/` }, name) : name);
}

function makeNow(task) {
  const part = { task, link: taskLink(), worker: el("td"), age: el("span"), meter: el("span", { class: "meter" }, el("span")) };
  part.cancel = el("button", { type: "button", class: "button small" }, "Cancel");
  part.cancel.addEventListener("click", () => act(part.cancel, () => post(`/api/v1${path(part.task)}cancel`)));
  part.tick = () => {
    const { task: one } = part;
    const isRunning = one.status === "running";
    const seconds = secondsSince(isRunning ? one.started_at : one.created_at);
    setText(part.age, `${isRunning ? (one.cancel_requested ? "ending" : "runs") : "waits"} ${age(seconds)}`);
    part.meter.hidden = !(isRunning && one.timeout_s);
    if (part.meter.hidden) return;
    const percent = Math.min(100, (100 * seconds) / one.timeout_s);
    part.meter.firstElementChild.style.width = `${percent}%`;
    part.meter.title = `Time-out after ${duration(one.timeout_s)}`;
    part.meter.classList.toggle("warn", percent >= 90);
  };
  const row = el("tr", {}, el("td", {}, part.link), part.worker, el("td", {}, el("span", { class: "age" }, part.age, part.meter)), el("td", { class: "action" }, part.cancel));
  rows.set(row, part);
  return row;
}

function updateNow(row, task) {
  const part = rows.get(row);
  part.task = task;
  updateLink(part.link, task);
  updateWorker(part.worker, task);
  part.cancel.setAttribute("aria-label", `Cancel ${task.name || task.command}`);
  part.cancel.hidden = task.cancel_requested;
  part.tick();
}

function makeEnded(task) {
  const part = { task, link: taskLink(), badge: el("span", { class: "badge" }), worker: el("td"), took: el("td", { class: "number" }), when: el("td", { class: "number" }) };
  part.tick = () => setText(part.when, ago(part.task.completed_at));
  const row = el("tr", {}, el("td", {}, part.link), el("td", { class: "outcome" }, part.badge), part.worker, part.took, part.when);
  rows.set(row, part);
  if (!isFirst && (statuses.has(task.id) || secondsSince(task.completed_at) < NEW_S)) flash(row, task);
  return row;
}

function updateEnded(row, task) {
  const part = rows.get(row);
  part.task = task;
  updateLink(part.link, task);
  updateWorker(part.worker, task);
  part.badge.className = `badge ${kindOf(task.status)}`;
  setText(part.badge, task.status);
  part.badge.title = outcomeText(task);
  setText(part.took, task.duration_ms === null ? "–" : duration(task.duration_ms / 1000));
  part.tick();
}

function outcomeText(task) {
  if (task.failure_reason === "exit_code") return `exit code ${task.exit_code}`;
  return (task.failure_reason || task.status).replaceAll("_", " ");
}

function flash(row, task) {
  row.classList.add("flash", kindOf(task.status) || "none");
  row.addEventListener("animationend", () => row.classList.remove("flash", "good", "warn", "bad", "none"), { once: true });
}
