// The audit's page: times in the reader's own zone, in the entries and in the filter.

import { byId, el, setText } from "./dom.js";
import { duration } from "./format.js";
import { showTimes } from "./times.js";

const NARROW_PX = 640;
const pad = (number) => String(number).padStart(2, "0");

/** Return in the reader's time what a datetime-local input holds in UTC: 2026-11-27T08:05:00. */
function localValue(text) {
  if (!text) return "";
  const at = new Date(`${text}Z`);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}T${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

/** Let a person see and set a filter's time in the own zone, and send it as UTC. */
function inOwnZone(input) {
  const sent = el("input", { type: "hidden", name: input.name });
  input.removeAttribute("name");
  input.value = localValue(input.getAttribute("value"));
  input.after(sent);
  const keep = () => (sent.value = input.value ? new Date(input.value).toISOString() : "");
  input.addEventListener("input", keep);
  keep();
}

showTimes(document);
for (const after of document.querySelectorAll("[data-after]")) {
  const seconds = Number(after.dataset.after);
  setText(after, seconds > 0 ? `${duration(seconds)} after the first` : "");
}
document.querySelectorAll('#filter-form input[type="datetime-local"]').forEach(inOwnZone);
document.querySelectorAll("[data-zone]").forEach((zone) => setText(zone, ""));

// On a telephone the entries come first.
const filters = byId("filters");
if (innerWidth <= NARROW_PX && !("isFiltered" in filters.dataset)) filters.open = false;

// Fields that are left empty would only make the address long.
byId("filter-form").addEventListener("submit", (event) => {
  for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
  // Coming back to this page must find them open.
  setTimeout(() => [...event.target.elements].forEach((field) => (field.disabled = false)));
});
