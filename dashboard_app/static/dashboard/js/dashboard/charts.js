// The last hour in four charts: the history once, then each new point as it comes.

import { get } from "../api.js";
import { Chart } from "../chart.js";
import { byId } from "../dom.js";
import { onChange, state } from "../live.js";

const HISTORY = "/api/v1/stats/history?hours=1";
const MINUTE_S = 60;
const LATE_STEPS = 3;
const HEIGHT = 110;

const short = (number) => (number === null ? "–" : number >= 1000 ? `${(number / 1000).toFixed(1)}k` : String(Math.round(number * 10) / 10));
const percent = (number) => (number === null ? "–" : `${Math.round(number)} %`);

const CHARTS = [
  {
    id: "chart-throughput",
    series: [{ label: "completed", colour: "--good", value: short, fill: true }, { label: "failed", colour: "--bad", value: short }],
    row: (point, stepS) => [perMinute(point.completed, stepS), perMinute(point.failed, stepS)],
  },
  {
    id: "chart-queue",
    series: [{ label: "queued", colour: "--warn", value: short, fill: true }, { label: "running", colour: "--accent", value: short }],
    row: (point) => [point.queued, point.running],
  },
  {
    id: "chart-slots",
    series: [{ label: "in use", colour: "--accent", value: short, fill: true }, { label: "all", colour: "--muted", value: short }],
    row: (point) => [point.slots_used, point.slots_total],
  },
  {
    id: "chart-cpu",
    max: 100,
    series: [{ label: "CPU", colour: "--accent", value: percent, fill: true }],
    row: (point) => [point.cpu_percent],
  },
];

const perMinute = (number, stepS) => (number === null ? null : (number * MINUTE_S) / stepS);

/** Draw the charts and keep them up to date; call once. */
export async function startCharts() {
  let stepS = 10;
  let lastAt = 0;
  const charts = CHARTS.map(({ id, series, max = null }) => new Chart(byId(id), { series, max, height: HEIGHT }));
  const rowOf = (point, place) => [point.at, ...CHARTS[place].row(point, stepS)];

  async function load() {
    const history = await get(HISTORY);
    stepS = history.step_s;
    lastAt = history.points.at(-1)?.at ?? lastAt;
    charts.forEach((chart, place) => chart.set(history.points.map((point) => rowOf(point, place))));
  }

  onChange((changed) => {
    if (!changed.has("point")) return;
    const isLate = state.point.at - lastAt > LATE_STEPS * stepS;
    lastAt = state.point.at;
    // After a broken connection the points in between are asked for.
    if (isLate) load().catch(() => {});
    else charts.forEach((chart, place) => chart.append(rowOf(state.point, place)));
  });
  // Without history the charts begin with the next point.
  await load().catch(() => {});
}
