// What people do to workers: asks for a reason where it cannot simply be taken back, and tells REST.

import { act, notify, post } from "../api.js";
import { el } from "../dom.js";

const MAX_REASON = 255;

const DONE = {
  approve: (name) => `${name} is approved and gets tasks.`,
  suspend: (name) => `${name} is suspended.`,
  revoke: (name) => `${name} is revoked.`,
  drain: (name) => `${name} gets nothing new and finishes what runs there.`,
  resume: (name) => `${name} gets tasks again.`,
};

const ASKED = {
  suspend: {
    title: (name) => `Suspend ${name}?`,
    button: "Suspend",
    what: (running) => [
      running ? `${tasks(running)} there now: ${running === 1 ? "it is" : "they are"} stopped and queued again for other workers.` : "Nothing runs there now.",
      "It gets no tasks until somebody approves it again. To let it finish what it has, drain it instead.",
    ],
  },
  revoke: {
    title: (name) => `Revoke ${name} for ever?`,
    button: "Revoke",
    what: (running) => [
      "Its key is shut out and its link is closed. This cannot be taken back: to come back, the machine must join again with a new token.",
      running ? `${tasks(running)} there now: ${running === 1 ? "it is" : "they are"} queued again for other workers.` : "Nothing runs there now.",
    ],
  },
};

const tasks = (running) => (running === 1 ? "One task runs" : `${running} tasks run`);

/** Take a step for a worker {id, name, running}; `after` is called when it is done. The button waits meanwhile. */
export function take(step, worker, button, after = () => {}) {
  if (ASKED[step]) ask(step, worker, after);
  else act(button, async () => {
    await tell(step, worker, {});
    await after();
  });
}

async function tell(step, { id, name }, body) {
  await post(`/api/v1/workers/${encodeURIComponent(id)}/${step}`, body);
  notify(DONE[step](name));
}

function ask(step, worker, after) {
  const { title, button, what } = ASKED[step];
  const reason = el("input", { id: "step-reason", name: "reason", maxlength: MAX_REASON, autocomplete: "off", "aria-describedby": "step-reason-hint" });
  const yes = el("button", { class: "button danger" }, button);
  const no = el("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Cancel");
  const form = el(
    "form",
    { class: "step-form", method: "dialog" },
    el("h2", { id: "step-title" }, title(worker.name)),
    ...what(worker.running).map((text) => el("p", {}, text)),
    el("div", { class: "field" }, el("label", { for: "step-reason" }, "Reason"), reason, el("span", { class: "muted", id: "step-reason-hint" }, "May be empty. It is shown with the worker and kept in the audit.")),
    el("div", { class: "actions" }, yes, no),
  );
  const dialog = el("dialog", { class: "step-dialog", "aria-labelledby": "step-title" }, form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(yes, async () => {
      await tell(step, worker, { reason: reason.value.trim() });
      dialog.close();
      await after();
    });
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  reason.focus();
}
