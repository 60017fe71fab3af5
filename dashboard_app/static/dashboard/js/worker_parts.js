// What cards and tables of workers share: their order among equals, their meters, and what is worked out of a card.

import { setText } from "./dom.js";

const WARN_FROM = 85;
const BAD_FROM = 95;
const LEVELS = ["very_strict", "strict", "basic", "none"];

/** Compares names as people count: pc-2 before pc-10. */
export const byName = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** Return the path of a worker's page. */
export const pageOf = (worker) => `/workers/${encodeURIComponent(worker.id)}/`;

/** Return the strongest level that a worker has proved, undefined when there is none. */
export const strongestLevel = (worker) => LEVELS.find((level) => worker.levels.includes(level));

/** Return the bytes of memory in use, null when the worker has not told. */
export const usedBytes = (worker) => (worker.memory_available_bytes === null ? null : worker.memory_total_bytes - worker.memory_available_bytes);

/** Return the plain words behind a worker's status, empty when the status says it all. */
export const detailOf = (worker) => worker.status_text.slice(worker.status.length + 2);

/** Show a share from 0 to 1, or null for none, on a meter whose bar is its only child, and its text beside it. */
export function showMeter(meter, value, share, text, { warns = true } = {}) {
  const percent = share === null || !Number.isFinite(share) ? 0 : Math.max(0, Math.min(100, 100 * share));
  meter.firstElementChild.style.width = `${percent}%`;
  meter.setAttribute("aria-valuenow", Math.round(percent));
  meter.setAttribute("aria-valuetext", text);
  meter.classList.toggle("warn", warns && percent >= WARN_FROM && percent < BAD_FROM);
  meter.classList.toggle("bad", warns && percent >= BAD_FROM);
  setText(value, text);
}
