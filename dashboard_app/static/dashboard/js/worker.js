// The page of one worker: its parts come from the server again when something happened; its load is live.

import { byId, setText } from "./dom.js";
import { kindOf } from "./format.js";
import { connect, onChange, state } from "./live.js";
import { Parts } from "./parts.js";
import { tick } from "./times.js";
import { take } from "./workers/steps.js";
import { VitalsCharts } from "./workers/vitals.js";

const AWAY = new Set(["disconnected", "revoked"]);
const { workerId } = byId("worker-head").dataset;
const parts = new Parts(["worker-head", "worker-running", "worker-facts", "worker-latest"]);
const charts = new VitalsCharts(workerId);

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-step]");
  if (!button) return;
  const { workerName: name, running } = byId("worker-head").dataset;
  take(button.dataset.step, { id: workerId, name, running: Number(running) }, button, () => parts.now());
});

/** Return what of the worker and its tasks is on the page beside its load. */
function facts(card) {
  const here = [...state.tasks.values()].filter((task) => task.worker_id === workerId).map((task) => [task.id, task.status, task.attempt]);
  return JSON.stringify([card && [card.status, card.status_text, card.slots, card.slots_used, card.is_draining, card.levels, card.connected_at, card.name], here]);
}

let told = "";
onChange((changed) => {
  if (!changed.has("workers") && !changed.has("tasks")) return;
  const card = state.workers.get(workerId);
  if (card) {
    // At once, and before the server is asked: that a machine is gone should be seen.
    const sign = byId("worker-status");
    sign.className = `badge ${kindOf(card.status)}`;
    setText(sign, card.status);
    if (!AWAY.has(card.status) && changed.has("workers")) charts.append(card);
  }
  const known = facts(card);
  if (known !== told) {
    told = known;
    parts.ask();
  }
});

tick();
charts.show(1);
connect();
