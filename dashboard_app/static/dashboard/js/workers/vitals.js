// A worker's load in charts: the history of the chosen range, and in the shortest one what comes live.

import { get, notify } from "../api.js";
import { Chart } from "../chart.js";
import { byId } from "../dom.js";
import { bytes } from "../format.js";
import { usedBytes } from "../worker_parts.js";

const HOUR_S = 3600;
const LIVE_HOURS = 1;
const HEIGHT = 130;
const LEAST_AGAIN_S = 60;

const percent = (value) => (value === null ? "–" : `${Math.round(value)} %`);
const whole = (value) => (value === null ? "–" : String(Math.round(value * 10) / 10));
const millis = (value) => (value === null ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`);

/** The charts' series; `row` is for a point of the history, `live` for the card of the live events. */
const CHARTS = [
  {
    id: "chart-cpu",
    max: 100,
    series: [{ label: "mean", colour: "--accent", value: percent, fill: true }, { label: "highest", colour: "--warn", value: percent }],
    row: (point) => [point.cpu_percent, point.cpu_percent_max],
    live: (card) => [card.cpu_percent, card.cpu_percent],
  },
  {
    id: "chart-memory",
    max: Number(byId("worker-head").dataset.memoryBytes) || null,
    labelWidth: 66,
    isBytes: true,
    series: [{ label: "mean", colour: "--accent", value: bytes, fill: true }, { label: "highest", colour: "--warn", value: bytes }],
    row: (point) => [point.memory_used_bytes, point.memory_used_bytes_max],
    live: (card) => [usedBytes(card), usedBytes(card)],
  },
  {
    id: "chart-slots",
    max: Number(byId("worker-head").dataset.slots) || null,
    series: [{ label: "in use", colour: "--accent", value: whole, fill: true }],
    row: (point) => [point.slots_used],
    live: (card) => [card.slots_used],
  },
  {
    id: "chart-round-trip",
    labelWidth: 56,
    series: [{ label: "round trip", colour: "--accent", value: millis }],
    row: (point) => [point.round_trip_ms],
    live: (card) => [card.round_trip_ms],
  },
  {
    id: "chart-disk",
    labelWidth: 66,
    isBytes: true,
    series: [{ label: "free", colour: "--good", value: bytes, fill: true }],
    row: (point) => [point.disk_free_bytes],
    live: (card) => [card.disk_free_bytes],
  },
  {
    id: "chart-load",
    series: [{ label: "load", colour: "--accent", value: whole }],
    row: (point) => [point.load_1m],
    live: (card) => [card.load_1m],
  },
];

export class VitalsCharts {
  #workerId;
  #hours = LIVE_HOURS;
  #stepS = 10;
  #charts;
  #timer = null;
  #lastAt = 0;
  #asked = 0;

  constructor(workerId) {
    this.#workerId = workerId;
    this.#charts = CHARTS.map(({ id, series, max = null, labelWidth, isBytes }) => new Chart(byId(id), { series, max, labelWidth, isBytes, height: HEIGHT }));
    for (const button of document.querySelectorAll("[data-hours]")) {
      button.addEventListener("click", () => this.show(Number(button.dataset.hours)));
    }
  }

  /** Show so many hours. */
  async show(hours) {
    clearTimeout(this.#timer);
    this.#hours = hours;
    for (const button of document.querySelectorAll("[data-hours]")) button.setAttribute("aria-pressed", String(Number(button.dataset.hours) === hours));
    this.#asked += 1;
    const asked = this.#asked;
    let history;
    try {
      history = await get(`/api/v1/workers/${encodeURIComponent(this.#workerId)}/vitals?hours=${hours}`);
    } catch (error) {
      notify(`The charts cannot be shown: ${error.message}`, "bad");
      history = { step_s: 10, points: [] };
    }
    // Meanwhile another range was chosen.
    if (asked !== this.#asked) return;
    this.#stepS = history.step_s;
    this.#lastAt = history.points.at(-1)?.at ?? 0;
    for (const chart of this.#charts) chart.rescale(hours * HOUR_S, history.step_s);
    CHARTS.forEach(({ row }, place) => this.#charts[place].set(history.points.map((point) => [point.at, ...row(point)])));
    const againS = hours === LIVE_HOURS ? 10 * LEAST_AGAIN_S : Math.max(LEAST_AGAIN_S, this.#stepS);
    this.#timer = setTimeout(() => this.show(hours), againS * 1000);
  }

  /** Add what the live events tell of a worker that is connected, once in a step. */
  append(card) {
    const at = Math.floor(Date.now() / 1000);
    if (this.#hours !== LIVE_HOURS || !this.#asked || at < this.#lastAt + this.#stepS) return;
    this.#lastAt = at;
    CHARTS.forEach(({ live }, place) => this.#charts[place].append([at, ...live(card)]));
  }
}
