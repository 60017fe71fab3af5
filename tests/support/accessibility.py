"""A look at a page as assistive technology and tired eyes meet it: names, headings, tables, ids, contrast."""

from __future__ import annotations

from playwright.sync_api import Page

LOOK = r"""
() => {
  const faults = [];
  const where = (element) => `<${element.tagName.toLowerCase()}${element.id ? " id=" + element.id : ""} class="${element.className}"> ` +
    (element.textContent || "").trim().slice(0, 60);
  const isShown = (element) => element.checkVisibility({ visibilityProperty: true });
  const textOf = (id) => document.getElementById(id)?.textContent.trim() || "";
  const spoken = (element) => element.textContent.trim() || element.querySelector("img[alt]")?.alt || "";
  const nameOf = (element) =>
    (element.getAttribute("aria-labelledby") || "").split(/\s+/).map(textOf).join(" ").trim() ||
    element.getAttribute("aria-label")?.trim() ||
    [...(element.labels || [])].map(spoken).join(" ") ||
    (["INPUT", "SELECT", "TEXTAREA"].includes(element.tagName) ? "" : spoken(element)) ||
    (element.type === "submit" ? element.value : "") || element.title || "";

  if (!document.documentElement.lang) faults.push("no language");
  if (!document.title.trim()) faults.push("no title");
  const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(isShown);
  const first = headings.filter((heading) => heading.tagName === "H1");
  if (first.length !== 1) faults.push(`${first.length} h1: ${first.map(where).join("; ")}`);
  let level = 0;
  for (const heading of headings) {
    const own = Number(heading.tagName[1]);
    if (level && own > level + 1) faults.push(`h${own} after h${level}: ${where(heading)}`);
    level = own;
    if (!heading.textContent.trim()) faults.push(`empty heading: ${where(heading)}`);
  }
  for (const element of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, [role=button], summary")) {
    if (isShown(element) && !nameOf(element)) faults.push(`no name: ${where(element)}`);
  }
  for (const image of document.querySelectorAll("img:not([alt])")) faults.push(`no alternative text: ${image.src}`);
  // The admin's tables are Django's own.
  for (const cell of location.pathname.startsWith("/admin/") ? [] : document.querySelectorAll("table th")) {
    if (isShown(cell) && !cell.scope) faults.push(`th without scope: ${where(cell)}`);
  }
  for (const element of document.querySelectorAll("[tabindex]")) if (element.tabIndex > 0) faults.push(`tabindex above 0: ${where(element)}`);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids.filter((id, place) => ids.indexOf(id) !== place))) faults.push(`id twice: ${id}`);
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      for (const id of element.getAttribute(attribute).split(/\s+/)) {
        if (id && !document.getElementById(id)) faults.push(`${attribute} names ${id}, which is not there: ${where(element)}`);
      }
    }
  }
  for (const element of document.querySelectorAll("*")) {
    const scrolls = isShown(element) && element.scrollHeight > element.clientHeight + 1 &&
      ["auto", "scroll"].includes(getComputedStyle(element).overflowY) && element !== document.documentElement && element !== document.body;
    if (scrolls && element.tabIndex < 0 && !element.querySelector("a[href], button, input, select, textarea, summary, [tabindex]")) {
      faults.push(`scrolls, but not by keyboard: ${where(element)}`);
    }
  }

  // Contrast of text on the nearest background that is not see-through, both painted by the browser itself: any
  // notation of a colour is understood.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const paint = (...colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([red, green, blue]) => [red, green, blue]
    .map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || seen.has(element) || ["SCRIPT", "STYLE", "NOSCRIPT", "OPTION"].includes(element.tagName)) continue;
    seen.add(element);
    const style = getComputedStyle(element);
    if (!isShown(element) || element.closest(":disabled, [aria-hidden=true], .visually-hidden")) continue;
    const layers = [];
    let opacity = 1;
    for (let up = element; up; up = up.parentElement) {
      const upper = getComputedStyle(up);
      opacity *= Number(upper.opacity);
      layers.unshift(upper.backgroundColor);
    }
    const ground = paint("white", ...layers);
    const ink = paint(`rgb(${ground.slice(0, 3).join(" ")})`, style.color);
    const [dark, bright] = [light(ground), light(ink)].sort((one, other) => one - other);
    const ratio = (bright + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (opacity > 0.99 && ratio < needed - 0.01) faults.push(`contrast ${ratio.toFixed(2)}: ${where(element)}`);
  }
  return faults;
}
"""


def faults_of(page: Page) -> list[str]:
    """Return what a page lacks, in words."""
    return page.evaluate(LOOK)


def sideways_scroll_px(page: Page) -> int:
    """Return by how much the page is wider than its window."""
    return page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
