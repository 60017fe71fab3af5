// Workers as cards, those with a problem first; many of them in a compact form with a filter.

import { act, post } from "../api.js";
import { byId, el, keyed, setText } from "../dom.js";
import { ago, bytes, count, kindOf } from "../format.js";
import { byName, detailOf, pageOf, showMeter, strongestLevel, usedBytes } from "../worker_parts.js";

const COMPACT_FROM = 25;
const RANK = { pending: 0, paused: 1, suspended: 1, disconnected: 2, draining: 3, connected: 4 };
const AWAY = new Set(["disconnected", "pending", "suspended"]);
const parts = new WeakMap();
let shown = new Map();

/** Wire the filter; call once. */
export function startWorkers() {
  byId("workers").replaceChildren();
  byId("workers-filter").addEventListener("input", () => renderWorkers(shown));
}

/** Show these workers, a map of cards by id. */
export function renderWorkers(workers) {
  shown = workers;
  const present = [...workers.values()].filter((worker) => worker.status !== "revoked");
  const isCompact = present.length >= COMPACT_FROM;
  const field = byId("workers-filter");
  field.hidden = !isCompact;
  const sought = isCompact ? field.value.trim().toLowerCase() : "";
  const matching = present
    .filter((worker) => !sought || `${worker.name} ${worker.status_text} ${worker.address}`.toLowerCase().includes(sought))
    .sort((one, other) => (RANK[one.status] ?? 2) - (RANK[other.status] ?? 2) || byName.compare(one.name, other.name));
  byId("workers").classList.toggle("compact", isCompact);
  keyed(byId("workers"), matching, (worker) => worker.id, makeCard, updateCard);
  byId("no-workers").hidden = present.length > 0;
  const connected = present.filter((worker) => worker.status === "connected").length;
  const all = present.length === connected ? `${count(connected)} connected` : `${count(connected)} of ${count(present.length)} connected`;
  setText(byId("workers-count"), present.length ? all + (sought ? `, ${count(matching.length)} shown` : "") : "");
}

/** Let the ages go on; call each second. */
export function tickWorkers() {
  for (const card of byId("workers").children) setText(parts.get(card).seen, seenText(parts.get(card).worker));
}

function makeCard(worker) {
  const part = {
    name: el("a", { class: "card-name", href: pageOf(worker) }),
    badge: el("span", { class: "badge" }),
    state: el("span", { class: "card-state" }),
    slots: meterOf("Slots", "slots"),
    cpu: meterOf("CPU", "cpu"),
    memory: meterOf("Memory", "memory"),
    level: el("span", { title: "The strongest sandbox that this worker has proved" }),
    seen: el("span"),
    approve: el("button", { type: "button", class: "button small primary" }, "Approve"),
    worker,
  };
  part.approve.addEventListener("click", () => act(part.approve, () => post(`/api/v1/workers/${encodeURIComponent(worker.id)}/approve`)));
  const meters = [part.slots, part.cpu, part.memory].flatMap(({ name, meter, value }) => [name, meter, value]);
  const card = el(
    "li",
    {},
    el("span", { class: "card-head" }, part.name, part.badge),
    part.state,
    part.approve,
    el("span", { class: "card-meters" }, meters),
    el("span", { class: "card-foot" }, part.level, part.seen),
  );
  parts.set(card, part);
  return card;
}

function meterOf(label, name) {
  return {
    name: el("span", { class: `name ${name}` }, label),
    meter: el("span", { class: `meter ${name}`, role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" }, el("span")),
    value: el("span", { class: `value ${name}` }),
  };
}

function updateCard(card, worker) {
  const part = parts.get(card);
  if (card.className && part.worker === worker) return;
  part.worker = worker;
  card.className = `card ${kindOf(worker.status)}${AWAY.has(worker.status) ? " away" : ""}`;
  setText(part.name, worker.name);
  part.name.title = worker.name;
  part.badge.className = `badge ${kindOf(worker.status)}`;
  setText(part.badge, worker.status);
  const detail = detailOf(worker);
  setText(part.state, detail);
  part.state.hidden = !detail;
  part.state.title = detail;
  part.approve.hidden = worker.status !== "pending" && worker.status !== "suspended";
  part.approve.setAttribute("aria-label", `Approve ${worker.name}`);
  const used = usedBytes(worker);
  showMeter(part.slots.meter, part.slots.value, worker.slots ? worker.slots_used / worker.slots : null, `${worker.slots_used} of ${worker.slots}`, { warns: false });
  showMeter(part.cpu.meter, part.cpu.value, worker.cpu_percent === null ? null : worker.cpu_percent / 100, worker.cpu_percent === null ? "–" : `${Math.round(worker.cpu_percent)} %`);
  showMeter(part.memory.meter, part.memory.value, used === null ? null : used / worker.memory_total_bytes, used === null ? "–" : bytes(used));
  part.memory.value.title = used === null ? "" : `${bytes(used)} of ${bytes(worker.memory_total_bytes)}`;
  const level = strongestLevel(worker);
  setText(part.level, level ? level + (worker.allows_network ? ", network" : "") : "");
  setText(part.seen, seenText(worker));
}

const seenText = (worker) => (worker.last_seen_at ? `seen ${ago(worker.last_seen_at)}` : "never seen");
