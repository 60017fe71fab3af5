// All workers: those that wait for approval first, the others as a table that is filtered on the page.

import { byId, el, keyed, setText } from "./dom.js";
import { ago, bytes, count, kindOf } from "./format.js";
import { noticeJoined, startJoinDialog } from "./dashboard/join_dialog.js";
import { connect, onChange, state } from "./live.js";
import { byName, detailOf, pageOf, showMeter, strongestLevel, usedBytes } from "./worker_parts.js";
import { take } from "./workers/steps.js";

const TICK_MS = 1000;
const RANK = { paused: 0, disconnected: 1, suspended: 1, draining: 2, connected: 3, revoked: 4 };
const TROUBLE = new Set(["disconnected", "paused", "suspended"]);
const AWAY = new Set(["disconnected", "suspended", "revoked"]);
const rows = new WeakMap();

function render() {
  const all = [...state.workers.values()].sort((one, other) => (RANK[one.status] ?? 2) - (RANK[other.status] ?? 2) || byName.compare(one.name, other.name));
  const pending = all.filter((worker) => worker.status === "pending");
  keyed(byId("pending"), pending, (worker) => worker.id, makePending, updatePending);
  byId("pending-panel").hidden = !pending.length;
  const shown = all.filter((worker) => worker.status !== "pending" && fits(worker));
  keyed(byId("workers"), shown, (worker) => worker.id, makeRow, updateRow);
  byId("workers-panel").hidden = !all.length;
  byId("no-workers").hidden = all.length > 0;
  byId("none-fits").hidden = shown.length > 0 || all.length === pending.length;
  const present = all.filter((worker) => worker.status !== "revoked");
  const connected = present.filter((worker) => worker.status === "connected").length;
  setText(byId("workers-count"), present.length ? `${count(connected)} of ${count(present.length)} connected` : "");
  setText(byId("workers-shown"), isFiltered() ? `${count(shown.length)} shown` : "");
}

const isFiltered = () => Boolean(byId("workers-filter").value.trim() || byId("workers-state").value);

function fits(worker) {
  const wanted = byId("workers-state").value;
  if (wanted === "trouble" ? !TROUBLE.has(worker.status) : wanted ? worker.status !== wanted : worker.status === "revoked") return false;
  const sought = byId("workers-filter").value.trim().toLowerCase();
  return !sought || `${worker.name} ${worker.address} ${worker.platform} ${worker.id}`.toLowerCase().includes(sought);
}

function stepButton(row, step, label, kind = "") {
  const button = el("button", { type: "button", class: `button small ${kind}` }, label);
  button.addEventListener("click", () => {
    const { id, name, slots_used: running } = row.worker;
    take(step, { id, name, running }, button);
  });
  return button;
}

// Those that wait.

function makePending(worker) {
  const row = { worker, name: el("a", { href: pageOf(worker) }), address: el("td", { class: "mono" }), machine: el("td"), joined: el("td") };
  row.approve = stepButton(row, "approve", "Approve", "primary");
  row.revoke = stepButton(row, "revoke", "Revoke…");
  const element = el("tr", {}, el("th", { scope: "row" }, row.name), row.address, row.machine, row.joined, el("td", { class: "steps" }, el("span", { class: "actions" }, row.approve, row.revoke)));
  rows.set(element, row);
  return element;
}

function updatePending(element, worker) {
  const row = rows.get(element);
  row.worker = worker;
  setText(row.name, worker.name);
  setText(row.address, worker.address || "–");
  setText(row.machine, worker.platform || "not told yet");
  setText(row.joined, worker.last_seen_at ? `seen ${ago(worker.last_seen_at)}` : "has not connected yet");
  row.approve.setAttribute("aria-label", `Approve ${worker.name}`);
  row.revoke.setAttribute("aria-label", `Revoke ${worker.name}`);
}

// The others.

function makeRow(worker) {
  const row = {
    worker,
    name: el("a", { href: pageOf(worker) }),
    address: el("span", { class: "muted address" }),
    badge: el("span", { class: "badge" }),
    why: el("span", { class: "muted why" }),
    slots: meter("Slots"),
    cpu: meter("CPU"),
    memory: meter("Memory"),
    disk: el("td", { class: "number" }),
    level: el("span", { title: "The strongest sandbox that this worker has proved" }),
    network: el("span", { class: "muted why" }),
    seen: el("td", { class: "seen" }),
  };
  row.steps = {
    approve: stepButton(row, "approve", "Approve", "primary"),
    resume: stepButton(row, "resume", "Resume", "primary"),
    drain: stepButton(row, "drain", "Drain"),
    suspend: stepButton(row, "suspend", "Suspend…"),
  };
  const element = el(
    "tr",
    {},
    el("th", { scope: "row" }, row.name, row.address),
    el("td", {}, row.badge, row.why),
    ...[row.slots, row.cpu, row.memory].map(({ label, bar, value }) => el("td", { class: "measured", "data-label": label }, value, bar)),
    row.disk,
    el("td", {}, row.level, row.network),
    row.seen,
    el("td", { class: "steps" }, el("span", { class: "actions" }, Object.values(row.steps))),
  );
  rows.set(element, row);
  return element;
}

function meter(label) {
  const bar = el("span", { class: "meter", role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" }, el("span"));
  return { label, bar, value: el("span", { class: "value" }) };
}

function updateRow(element, worker) {
  const row = rows.get(element);
  if (element.dataset.drawn && row.worker === worker) return;
  element.dataset.drawn = "1";
  row.worker = worker;
  element.classList.toggle("away", AWAY.has(worker.status));
  setText(row.name, worker.name);
  setText(row.address, worker.address);
  row.badge.className = `badge ${kindOf(worker.status)}`;
  setText(row.badge, worker.status);
  setText(row.why, detailOf(worker));
  const used = usedBytes(worker);
  showMeter(row.slots.bar, row.slots.value, worker.slots ? worker.slots_used / worker.slots : null, `${worker.slots_used} of ${worker.slots}`, { warns: false });
  showMeter(row.cpu.bar, row.cpu.value, worker.cpu_percent === null ? null : worker.cpu_percent / 100, worker.cpu_percent === null ? "–" : `${Math.round(worker.cpu_percent)} % of ${worker.cpu_count}`);
  showMeter(row.memory.bar, row.memory.value, used === null ? null : used / worker.memory_total_bytes, used === null ? "–" : usedOf(used, worker.memory_total_bytes));
  setText(row.disk, bytes(worker.disk_free_bytes));
  setText(row.level, strongestLevel(worker) ?? "–");
  setText(row.network, worker.levels.length && worker.allows_network ? "with network" : "");
  setText(row.seen, ago(worker.last_seen_at));
  const possible = possibleSteps(worker);
  for (const [step, button] of Object.entries(row.steps)) {
    button.hidden = !possible.has(step);
    button.setAttribute("aria-label", `${button.textContent.replace("…", "")} ${worker.name}`);
  }
}

/** Return "1.8 of 23.5 GiB": the unit once where it is the same. */
function usedOf(used, total) {
  const [[count, unit], whole] = [bytes(used).split(" "), bytes(total)];
  return whole.endsWith(` ${unit}`) ? `${count} of ${whole}` : `${count} ${unit} of ${whole}`;
}

function possibleSteps(worker) {
  if (worker.admission === "suspended") return new Set(["approve"]);
  if (worker.admission !== "approved") return new Set();
  return new Set([worker.is_draining ? "resume" : "drain", "suspend"]);
}

for (const card of JSON.parse(byId("cards").textContent)) state.workers.set(card.id, card);
["pending", "workers"].forEach((id) => byId(id).replaceChildren());
["workers-filter", "workers-state"].forEach((id) => byId(id).addEventListener("input", render));
startJoinDialog();
render();
onChange((changed) => {
  if (!changed.has("workers")) return;
  render();
  noticeJoined(state.workers);
});
connect();
setInterval(() => {
  if (document.hidden) return;
  for (const element of byId("workers").children) setText(rows.get(element).seen, ago(rows.get(element).worker.last_seen_at));
}, TICK_MS);
