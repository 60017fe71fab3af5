// Line charts over time with uPlot (vendor/uplot), in the page's colours.

import { el } from "./dom.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart in `parent`. `series` are {label, colour: "--accent", value: (number) => text, fill: bool}.
 * `set(rows)` takes [[at, value, ...], ...] with `at` in seconds, oldest first; `append(row)` adds the newest and lets go of
 * what is older than `spanS`. A gap of more than three steps stays a gap.
 */
export class Chart {
  constructor(parent, { series, spanS = 3600, stepS = 10, height = 160, max = null, summary }) {
    this.parent = parent;
    this.options = { series, spanS, stepS, height, max };
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
    return Math.max(200, this.parent.clientWidth);
  }

  set(rows) {
    this.rows = rows;
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

  make() {
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--border"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const { series, height, max, spanS } = this.options;
    this.plot = new window.uPlot(
      {
        width: this.width(),
        height,
        cursor: { y: false },
        legend: { live: true },
        scales: {
          x: { range: (_, low, high) => [Math.max(low, high - spanS), Math.max(high, low + 60)] },
          y: { range: (_, low, high) => [0, max ?? Math.max(1, high * 1.1)] },
        },
        axes: [axis, { ...axis, size: 56, values: series[0].value ? (_, ticks) => ticks.map(series[0].value) : undefined }],
        series: [
          {},
          ...series.map((one) => ({
            label: one.label,
            stroke: colour(one.colour),
            fill: one.fill ? `${colour(one.colour)}22` : undefined,
            width: 1.5,
            points: { show: false },
            value: (_, value) => (value === null || value === undefined ? "–" : one.value ? one.value(value) : value),
          })),
        ],
      },
      this.data(),
      this.parent,
    );
  }
}
