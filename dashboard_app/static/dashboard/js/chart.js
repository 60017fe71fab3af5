// Line charts over time with uPlot (vendor/uplot), in the page's colours.

import { el } from "./dom.js";

const two = (number) => String(number).padStart(2, "0");
const hourAndMinute = (at) => ((date) => `${two(date.getHours())}:${two(date.getMinutes())}`)(new Date(at * 1000));
const withSeconds = (at) => `${hourAndMinute(at)}:${two(new Date(at * 1000).getSeconds())}`;

/** Between the labels of bytes: 1 GiB is a round number, 1,000,000,000 B is not. */
const POWERS_OF_TWO = Array.from({ length: 60 }, (_, power) => 2 ** power);
const day = (at) => new Date(at * 1000).toLocaleDateString(undefined, { month: "short", day: "numeric" });

function timeLabel(at, spanS) {
  if (spanS < 300) return withSeconds(at);
  return spanS > 2 * 86400 || (spanS > 43200 && hourAndMinute(at) === "00:00") ? day(at) : hourAndMinute(at);
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart in `parent`. `series` are {label, colour: "--accent", value: (number) => text, fill: bool}.
 * `set(rows)` takes [[at, value, ...], ...] with `at` in seconds, oldest first; `append(row)` adds the newest and lets go of
 * what is older than `spanS`. A gap of more than three steps stays a gap.
 */
export class Chart {
  constructor(parent, { series, spanS = 3600, stepS = 10, height = 160, max = null, labelWidth = 46, isBytes = false, summary }) {
    this.parent = parent;
    this.options = { series, spanS, stepS, height, max, labelWidth, isBytes };
    this.rows = [];
    this.summary = summary;
    this.plot = null;
    this.empty = el("p", { class: "muted" }, "Nothing measured yet; the first point comes within some seconds.");
    this.words = el("p", { class: "visually-hidden" });
    parent.append(this.empty, this.words);
    new ResizeObserver(() => this.plot?.setSize({ width: this.width(), height })).observe(parent);
    new MutationObserver(() => this.redraw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  width() {
    return Math.max(160, this.parent.clientWidth);
  }

  set(rows) {
    this.rows = rows;
    this.draw();
  }

  /** Take another span and step, and let go of what was shown; `set` what there is then. */
  rescale(spanS, stepS) {
    Object.assign(this.options, { spanS, stepS });
    this.rows = [];
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  append(row) {
    if (this.rows.length && row[0] <= this.rows[this.rows.length - 1][0]) return;
    this.rows.push(row);
    const first = row[0] - this.options.spanS;
    while (this.rows.length && this.rows[0][0] < first) this.rows.shift();
    this.draw();
  }

  data() {
    const columns = [[], ...this.options.series.map(() => [])];
    let before = null;
    for (const row of this.rows) {
      if (before !== null && row[0] - before > 3 * this.options.stepS) {
        columns[0].push(before + this.options.stepS);
        columns.slice(1).forEach((column) => column.push(null));
      }
      row.forEach((value, place) => columns[place].push(value));
      [before] = row;
    }
    return columns;
  }

  /** Return from when to when it shows: what was measured, but at least a twelfth of the span, so that a young chart is no blank. */
  shownTime() {
    const newest = this.rows[this.rows.length - 1][0];
    const { spanS } = this.options;
    return [newest - Math.min(spanS, Math.max(spanS / 12, newest - this.rows[0][0])), newest];
  }

  draw() {
    this.empty.hidden = this.rows.length > 0;
    if (!this.rows.length) return;
    const last = this.rows[this.rows.length - 1];
    this.words.textContent = this.options.series
      .map((one, place) => `${one.label}: ${one.value ? one.value(last[place + 1]) : last[place + 1]}`)
      .join(", ");
    if (this.plot) this.plot.setData(this.data());
    else this.make();
  }

  redraw() {
    if (!this.plot) return;
    this.plot.destroy();
    this.plot = null;
    this.draw();
  }

  /** Return a value of a series as the legend shows it: that under the pointer, else the newest. */
  legend(one, value) {
    return value === null || value === undefined ? "–" : one.value ? one.value(value) : value;
  }

  make() {
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--border"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const { series, height, max, spanS, labelWidth, isBytes } = this.options;
    this.plot = new window.uPlot(
      {
        width: this.width(),
        height,
        cursor: { y: false },
        legend: { live: true },
        scales: {
          x: { range: () => this.shownTime() },
          y: { range: (_, low, high) => [0, max ?? Math.max(1, high * 1.1)] },
        },
        axes: [{ ...axis, space: 60, size: 28, values: (_, ticks) => ticks.map((at) => timeLabel(at, ticks.at(-1) - ticks[0])) }, { ...axis, size: labelWidth, incrs: isBytes ? POWERS_OF_TWO : undefined, values: series[0].value ? (_, ticks) => ticks.map(series[0].value) : undefined }],
        series: [
          { label: "", value: (_, at, __, place) => (place === null ? "" : spanS > 86400 ? `${day(at)} ${hourAndMinute(at)}` : withSeconds(at)) },
          ...series.map((one, order) => ({
            label: one.label,
            stroke: colour(one.colour),
            fill: one.fill ? `${colour(one.colour)}22` : undefined,
            width: 1.5,
            points: { show: false },
            value: (_, value, __, place) => this.legend(one, place === null ? this.rows.at(-1)?.[order + 1] : value),
          })),
        ],
      },
      this.data(),
      this.parent,
    );
    this.parent.querySelectorAll(".u-legend th").forEach((cell) => cell.setAttribute("scope", "row"));
  }
}
