// The page of one task: its parts come from the server again when something happened; its output is live.

import { act, notify, post } from "./api.js";
import { watchCopyButtons } from "./copy.js";
import { byId } from "./dom.js";
import { connect, onChange, state } from "./live.js";
import { Parts } from "./parts.js";
import { OutputPanel } from "./task/output_panel.js";
import { tick } from "./times.js";

const PARTS = ["task-head", "task-state", "task-why", "task-facts", "task-attempts", "task-files"];
const DONE = { cancel: "The task is being cancelled.", retry: "The task is queued again." };

const taskId = byId("task-page").dataset.taskId;
const stand = () => {
  const { status, attempt, isEnded } = byId("task-state").dataset;
  return { status, attempt: Number(attempt), isEnded: isEnded === "1" };
};

const parts = new Parts(PARTS, () => output.take(stand()));
const output = new OutputPanel(taskId, () => parts.ask());
output.take(stand());
tick();
watchCopyButtons();

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-step]");
  if (!button) return;
  const { step } = button.dataset;
  act(button, async () => {
    await post(`/api/v1/tasks/${taskId}/${step}`);
    notify(DONE[step]);
    await parts.now();
  });
});

// The task's own row comes while it is among the newest; the counts change with every step of any task.
let told = "";
let counted = "";
onChange(() => {
  const row = JSON.stringify(state.tasks.get(taskId) ?? null);
  const counts = JSON.stringify(state.summary?.tasks ?? null);
  const { status, isEnded } = stand();
  const isNews = row !== told || (!isEnded && counts !== counted);
  [told, counted] = [row, counts];
  // Why it waits depends on the workers and on all that runs there.
  if (isNews || status === "queued") parts.ask();
});
connect();
