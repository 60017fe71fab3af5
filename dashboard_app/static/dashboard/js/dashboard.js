// The dashboard: shows what the server rendered, then what the socket tells; each part renders only when its facts changed.

import { byId } from "./dom.js";
import { connect, onChange, state, take } from "./live.js";
import { startCharts } from "./dashboard/charts.js";
import { renderEvents } from "./dashboard/events.js";
import { startJoinDialog, noticeJoined } from "./dashboard/join_dialog.js";
import { startRunForm } from "./dashboard/run_form.js";
import { renderTasks, tickTasks } from "./dashboard/tasks.js";
import { renderSummary } from "./dashboard/tiles.js";
import { renderWorkers, startWorkers, tickWorkers } from "./dashboard/workers.js";

const TICK_MS = 1000;
const isOperator = document.body.dataset.isOperator === "1";

function render(changed) {
  if (changed.has("summary")) renderSummary(state.summary);
  if (changed.has("tasks")) renderTasks(state.tasks);
  if (!isOperator) return;
  if (changed.has("workers")) {
    renderWorkers(state.workers);
    noticeJoined(state.workers);
  }
  if (changed.has("events")) renderEvents(state.events, state.tasks);
}

if (isOperator) {
  startWorkers();
  startJoinDialog();
}
startRunForm();
render(take(JSON.parse(byId("first-look").textContent)));
if (isOperator) startCharts();
onChange(render);
connect();

setInterval(() => {
  if (document.hidden) return;
  tickTasks();
  if (isOperator) tickWorkers();
}, TICK_MS);
