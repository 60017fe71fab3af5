// REST of this server with the page's own sign-in, and short messages to the person.

import { byId, el } from "./dom.js";

/** What REST refused: `message` in plain words, `status`, and the `fields` that were wrong. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the server answered ${status}`);
    this.status = status;
    this.fields = problem.errors || [];
  }
}

async function call(method, path, body) {
  const token = document.querySelector('meta[name="csrf-token"]')?.content || "";
  const headers = { Accept: "application/json", "X-CSRFToken": token };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new Refused(0, { detail: "the dispatcher cannot be reached" });
  }
  const text = await response.text();
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    answer = { detail: text.slice(0, 200) };
  }
  if (!response.ok) throw new Refused(response.status, answer || {});
  return answer;
}

/** Return the answer of GET; throws Refused. */
export const get = (path) => call("GET", path);

/** Return the answer of POST; throws Refused. */
export const post = (path, body = {}) => call("POST", path, body);

/** Show a message for some seconds; kind is good, warn or bad. */
export function notify(text, kind = "good") {
  const notice = el("div", { class: `notice ${kind}` }, text);
  byId("notices")?.append(notice);
  setTimeout(() => notice.remove(), kind === "bad" ? 12000 : 5000);
}

/** Run an action that a button asked for: it cannot be pressed twice, and a refusal is shown. */
export async function act(button, action) {
  button.disabled = true;
  try {
    return await action();
  } catch (error) {
    notify(error.message, "bad");
    return undefined;
  } finally {
    button.disabled = false;
  }
}
