// Copies a line that stands on the page to the clipboard.

import { notify } from "./api.js";
import { byId, el } from "./dom.js";

async function copy(text) {
  // The clipboard's own interface is there on https and loopback only.
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = el("textarea", { class: "visually-hidden" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("refused");
}

async function copyFor(button, text) {
  const label = button.dataset.label ?? button.textContent;
  button.dataset.label = label;
  try {
    await copy(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 2000);
  } catch {
    notify("The browser does not let this page copy; select the line and copy it by hand.", "warn");
  }
}

/** Let every button with `data-copy` copy the text of the element with that id. */
export function watchCopyButtons() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-copy]");
    if (button) copyFor(button, byId(button.dataset.copy).textContent);
  });
}

/** Return an element that shows a line and has a button to copy it. */
export function copyLine(text, label = "Copy") {
  const button = el("button", { type: "button", class: "button" }, label);
  button.addEventListener("click", () => copyFor(button, text));
  return el("div", { class: "copyline" }, el("code", { tabindex: "0" }, text), button);
}
