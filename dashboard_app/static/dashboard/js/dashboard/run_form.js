// Runs a command: sends the form, shows refusals at their fields and warnings of the answer, and links to the task.

import { act, post, Refused } from "../api.js";
import { byId, el } from "../dom.js";
import { state } from "../live.js";

const WHOLE_NUMBERS = new Set(["timeout", "priority", "max_retries", "limits.memory_mb"]);

/** Wire the form; call once. */
export function startRunForm() {
  const form = byId("run-form");
  const command = byId("run-command");
  // Without this script the form could only put the command into an address.
  form.querySelector("button.primary").disabled = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  command.addEventListener("input", () => grow(command));
  byId("example-command").addEventListener("click", (event) => {
    command.value = event.currentTarget.textContent;
    grow(command);
    command.focus();
  });
}

function grow(area) {
  area.rows = Math.min(12, area.value.split("\n").length);
}

function send(form) {
  const button = form.querySelector("button.primary");
  if (button.disabled) return;
  clear(form);
  act(button, async () => {
    try {
      const isFirstEver = hasNone(state.summary);
      const task = await post("/api/v1/tasks", asked(form));
      shown(form, task, isFirstEver);
    } catch (error) {
      if (!(error instanceof Refused) || !refused(form, error)) throw error;
    }
  });
}

const hasNone = (summary) => Boolean(summary) && Object.values(summary.tasks).every((number) => number === 0);

function asked(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || (field.type === "checkbox" ? !field.checked : field.value === "" && field.name !== "command")) continue;
    const value = field.type === "checkbox" ? true : WHOLE_NUMBERS.has(field.name) ? Number(field.value) : field.value;
    const [outer, inner] = field.name.split(".");
    if (inner) body[outer] = { ...body[outer], [inner]: value };
    else body[outer] = value;
  }
  return body;
}

function shown(form, task, isFirstEver) {
  const warnings = task.warnings || [];
  if (isFirstEver && !warnings.length) {
    location.assign(`/tasks/${encodeURIComponent(task.id)}/`);
    return;
  }
  const link = el("a", { href: `/tasks/${encodeURIComponent(task.id)}/` }, task.name || "the task");
  byId("run-answer").replaceChildren(
    el("div", { class: "banner good" }, "Submitted ", link, "."),
    ...warnings.map((text) => el("div", { class: "banner warn" }, text)),
  );
  // The other options stay: the next command is often of the same kind.
  ["run-command", "run-name"].forEach((id) => (byId(id).value = ""));
  grow(byId("run-command"));
  byId("run-command").focus();
}

function refused(form, error) {
  const rest = error.fields.filter(({ field, message }) => {
    const input = [...form.elements].find((one) => one.name === field);
    if (!input) return true;
    input.closest("details")?.setAttribute("open", "");
    input.setAttribute("aria-invalid", "true");
    byId(input.getAttribute("aria-describedby")).textContent = message;
    return false;
  });
  form.querySelector('[aria-invalid="true"]')?.focus();
  return error.fields.length > 0 && rest.length === 0;
}

function clear(form) {
  byId("run-answer").replaceChildren();
  form.querySelectorAll(".field-error").forEach((place) => (place.textContent = ""));
  form.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
}
