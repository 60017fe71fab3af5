// The numbers at the top, the facts beside the heading, and the banner when the dispatcher takes no work.

import { byId, setText } from "../dom.js";
import { count, duration } from "../format.js";

const STATUSES = ["queued", "running", "completed", "failed", "cancelled"];
const BAD_RATIO = 0.1;

/** Show the summary of a frame. */
export function renderSummary(summary) {
  for (const status of STATUSES) setText(byId(`tile-${status}`), count(summary.tasks[status]));
  document.title = summary.tasks.running ? `${count(summary.tasks.running)} running · Octaskly` : "Dashboard · Octaskly";
  if (summary.slots) renderSlots(summary.slots);
  if (summary.rates) renderRates(summary.rates);
  if (summary.system) renderFacts(summary.system, summary.workers);
  renderTrouble(summary);
}

function renderSlots({ used, total }) {
  setText(byId("tile-slots"), `${count(used)} of ${count(total)}`);
  byId("tile-slots-meter").firstElementChild.style.width = `${total ? Math.min(100, (100 * used) / total) : 0}%`;
}

function renderRates({ completed_per_min: completed, failed_per_min: failed, failed_ratio: ratio }) {
  const ended = (completed ?? 0) + (failed ?? 0);
  setText(byId("tile-throughput"), ended >= 100 ? count(Math.round(ended)) : ended.toFixed(1));
  const rate = byId("tile-failure-rate");
  setText(rate, ratio === null || ratio === undefined ? "–" : `${(100 * ratio).toFixed(ratio > 0 && ratio < 0.1 ? 1 : 0)} %`);
  rate.classList.toggle("bad", ratio >= BAD_RATIO);
}

function renderFacts(system, workers) {
  const facts = [
    `${count(workers.total)} ${workers.total === 1 ? "worker" : "workers"}`,
    `up ${duration(system.uptime_seconds)}`,
    system.cpu_percent === null ? null : `processor ${Math.round(system.cpu_percent)} %`,
    `memory ${Math.round(system.memory_mb)} MB`,
    `database ${system.database_mb < 10 ? system.database_mb.toFixed(1) : Math.round(system.database_mb)} MB`,
  ];
  setText(byId("head-facts"), facts.filter(Boolean).join(" · "));
}

function renderTrouble({ is_accepting: isAccepting, read_only_reason: reason }) {
  const banner = byId("trouble");
  const isFine = isAccepting !== false && !reason;
  if (!isFine) {
    const cause = reason ? `${reason[0].toUpperCase()}${reason.slice(1)}: nothing new is stored until that is over.` : "The dispatcher takes no tasks at the moment.";
    setText(banner, `${cause} What is there can still be read.`);
  }
  banner.hidden = isFine;
}
