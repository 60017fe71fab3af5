// The list of tasks: rows stay current, many can be cancelled or retried at once.

import { act, notify, post } from "./api.js";
import { byId, setText } from "./dom.js";
import { connect, onChange, state } from "./live.js";
import { PageFetch } from "./parts.js";
import { showTimes, tick } from "./times.js";

const DONE = { cancel: ["cancelled", "cancelled"], retry: ["retried", "queued again"] };
/** So many tasks are cancelled only after a question. */
const ASKS_FROM = 10;
const NEAR_TOP_PX = 160;

const rows = () => [...document.querySelectorAll("#task-rows tr")];
const boxes = () => [...document.querySelectorAll("#task-rows input[type=checkbox]")];
const chosen = () => boxes().filter((box) => box.checked).map((box) => box.closest("tr"));

// --- selecting, and steps for what is selected

function showSelection() {
  const some = chosen();
  const count = (may) => some.filter((row) => row.dataset.may === may).length;
  setText(byId("selected"), some.length ? `${some.length} selected` : "");
  byId("cancel-selected").disabled = count("cancel") === 0;
  byId("retry-selected").disabled = count("retry") === 0;
  const all = byId("select-all");
  if (!all) return;
  all.checked = some.length > 0 && some.length === boxes().length;
  all.indeterminate = some.length > 0 && !all.checked;
}

function offerSelection() {
  document.querySelectorAll(".tick input").forEach((box) => (box.hidden = false));
  byId("bulk").hidden = boxes().length === 0;
  showSelection();
}

async function step(button, what) {
  const ids = chosen().filter((row) => row.dataset.may === what).map((row) => row.dataset.key);
  if (what === "cancel" && ids.length >= ASKS_FROM && !(await isConfirmed(ids.length))) return;
  await act(button, async () => {
    const answer = await post(`/api/v1/tasks/${what}`, { ids });
    const [field, word] = DONE[what];
    const done = answer[field].length;
    if (done) notify(`${done} ${done === 1 ? "task" : "tasks"} ${word}.`);
    for (const { reason } of answer.not_possible.slice(0, 3)) notify(reason, "warn");
    boxes().forEach((box) => (box.checked = false));
    await page.now();
  });
  showSelection();
}

function isConfirmed(count) {
  const dialog = byId("confirm");
  setText(byId("confirm-text"), `${count} tasks will be cancelled. What runs is killed with all its processes.`);
  setText(byId("confirm-yes"), `Cancel ${count} tasks`);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

// --- staying current

/** Whether new rows may move those that are there: nobody is about to click one. */
function isQuiet() {
  const list = byId("task-rows");
  return scrollY < NEAR_TOP_PX && !list.matches(":hover") && !list.contains(document.activeElement) && chosen().length === 0;
}

function takeRows(fresh) {
  const list = byId("task-rows");
  const come = fresh.getElementById("task-rows");
  const isSameKind = come.tagName === list.tagName;
  if (isSameKind && rows().map((row) => row.dataset.key).join() === [...come.children].map((row) => row.dataset.key).join()) {
    rows().forEach((row, place) => takeRow(row, come.children[place]));
  } else if (isQuiet() || asksForAll) {
    showAll(fresh);
  } else {
    const byKey = new Map([...come.children].map((row) => [row.dataset.key, row]));
    rows().forEach((row) => byKey.has(row.dataset.key) && takeRow(row, byKey.get(row.dataset.key)));
    byId("show-new").hidden = list.dataset.isFirst !== "1";
  }
  asksForAll = false;
  offerSelection();
}

function takeRow(row, fresh) {
  if (known.get(row.dataset.key) === fresh.outerHTML) return;
  known.set(row.dataset.key, fresh.outerHTML);
  row.dataset.may = fresh.dataset.may;
  // The first cell stays: it has the tick, and perhaps the focus.
  [...row.children].slice(1).forEach((cell, place) => {
    const come = fresh.children[place + 1];
    if (!cell.contains(document.activeElement)) cell.replaceWith(document.importNode(come, true));
  });
  showTimes(row);
}

function showAll(fresh) {
  const list = byId("task-rows");
  const whole = list.closest("section");
  const come = fresh.getElementById("task-rows").closest("section");
  known = keep(come);
  whole.replaceChildren(...[...come.children].map((part) => document.importNode(part, true)));
  showTimes(whole);
}

const keep = (root) => new Map([...root.querySelectorAll("#task-rows tr")].map((row) => [row.dataset.key, row.outerHTML]));

let known = keep(document);
let asksForAll = false;
let before = "";
const page = new PageFetch(takeRows, { isForHidden: false });

document.addEventListener("change", (event) => {
  if (event.target.id === "select-all") boxes().forEach((box) => (box.checked = event.target.checked));
  if (event.target.closest(".tick")) showSelection();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.id === "cancel-selected") step(button, "cancel");
  else if (button?.id === "retry-selected") step(button, "retry");
  else if (button?.id === "show-new") {
    asksForAll = true;
    act(button, () => page.now());
  }
});
onChange(() => {
  const now = JSON.stringify([state.summary?.tasks, [...state.tasks.values()].map((row) => [row.id, row.status, row.worker_id])]);
  if (now !== before) page.ask();
  before = now;
});
showTimes(document);
offerSelection();
tick();
connect();
