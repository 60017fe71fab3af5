// Makes a join line in a dialog, and says there when the machine has come.

import { act, post, Refused } from "../api.js";
import { copyLine } from "../copy.js";
import { byId, el, setText } from "../dom.js";
import { state } from "../live.js";

const HOUR_S = 3600;
const FIELDS = { uses: "join-uses", ttl_s: "join-hours" };
let known = null;

/** Wire the dialog and the buttons that open it; call once. */
export function startJoinDialog() {
  const dialog = byId("join-dialog");
  document.querySelectorAll('[data-opens="join-dialog"]').forEach((button) => button.addEventListener("click", open));
  dialog.querySelectorAll("[data-closes]").forEach((button) => button.addEventListener("click", () => dialog.close()));
  dialog.addEventListener("close", () => {
    // The token's text does not stay in the page.
    ["join-line", "join-installed"].forEach((id) => byId(id).replaceChildren());
    known = null;
  });
  byId("join-form").addEventListener("submit", (event) => {
    event.preventDefault();
    make();
  });
}

/** Say in the open dialog which machine has joined since the line was made. */
export function noticeJoined(workers) {
  if (!known) return;
  const joined = [...workers.values()].filter((worker) => !known.has(worker.id));
  if (!joined.length) return;
  const texts = joined.map(({ name, status }) => (status === "pending" ? `${name} has come and waits for approval` : `${name} has joined`));
  setText(byId("join-seen"), `${texts.join(", ")}.`);
}

function open() {
  byId("join-form").hidden = false;
  byId("join-answer").hidden = true;
  byId("join-dialog").showModal();
}

function make() {
  const form = byId("join-form");
  Object.values(FIELDS).forEach((id) => setText(byId(`${id}-error`), ""));
  const approves = byId("join-approve").checked;
  const body = { uses: Number(byId("join-uses").value), ttl_s: Math.round(Number(byId("join-hours").value) * HOUR_S), auto_approve: approves };
  act(form.querySelector("button.primary"), async () => {
    try {
      show(await post("/api/v1/join-tokens", body), approves);
    } catch (error) {
      const fields = error instanceof Refused ? error.fields.filter(({ field }) => FIELDS[field]) : [];
      if (!fields.length) throw error;
      fields.forEach(({ field, message }) => setText(byId(`${FIELDS[field]}-error`), message));
      byId(FIELDS[fields[0].field]).focus();
    }
  });
}

function show({ join_command: line, token }, approves) {
  known = new Set(state.workers.keys());
  byId("join-line").replaceChildren(copyLine(line, "Copy"));
  byId("join-installed").replaceChildren(copyLine(`python -m worker_node --join-token ${token}`, "Copy"), el("p", { class: "muted" }, "Add --dispatcher-addr HOST:PORT where mDNS does not reach."));
  setText(byId("join-next"), approves ? "The machine appears among the workers and gets tasks at once." : "The machine appears among the workers as pending; press Approve on its card, and it gets tasks.");
  setText(byId("join-seen"), "Waiting for the machine…");
  byId("join-form").hidden = true;
  byId("join-answer").hidden = false;
  byId("join-answer-title").focus();
}
