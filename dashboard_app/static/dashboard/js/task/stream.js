// Where a task's output comes from: the WebSocket while it can change, what was stored of an attempt that has ended.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10000;
const TAIL_BYTES = 1 << 20;
const NOT_SIGNED_IN = 4401;
const CLOSE_OF_STATUS = 4000;
const DONE = 1000;

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const content = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 1) content[at] = text.charCodeAt(at);
  return content;
}

/**
 * Follows a task over `/ws/tasks/{id}/output`. A socket that breaks is opened again and begins at the start of the
 * attempt: what was shown already is told by its offset and dropped. Calls of `on`: `output(stream, text)`,
 * `gap(stream, count)`, `attempt(number, before)` ahead of the output of another attempt, `status(status)`, `end(frame)`,
 * `state(text)` with what the reader should know of the connection, empty when all is well.
 */
export class LiveOutput {
  #path;
  #on;
  #socket = null;
  #attempt = 0;
  #shown;
  #decoders;
  #reached;
  #pauseMs = FIRST_PAUSE_MS;
  #timer = null;
  #isClosed = false;
  #isDone = false;

  constructor(taskId, on) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    this.#path = `${scheme}//${location.host}/ws/tasks/${taskId}/output?encoding=base64`;
    this.#on = on;
    this.#beginAttempt(0);
    this.#open();
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  /** Go on after the end: the task was queued again. */
  resume() {
    if (this.#isDone) this.#open();
  }

  #open() {
    this.#isDone = false;
    const socket = new WebSocket(this.#path);
    this.#socket = socket;
    this.#reached = { stdout: 0, stderr: 0 };
    let refusal = "";
    socket.addEventListener("message", ({ data }) => {
      if (this.#isClosed) return;
      const frame = JSON.parse(data);
      if (frame.type === "refused") refusal = frame.detail;
      else this.#take(frame);
    });
    socket.addEventListener("close", ({ code }) => {
      this.#isDone = code === DONE;
      if (this.#isClosed || this.#isDone) return;
      if (code === NOT_SIGNED_IN) {
        location.assign(`/login/?next=${encodeURIComponent(location.pathname)}`);
      } else if (code === CLOSE_OF_STATUS + 403 || code === CLOSE_OF_STATUS + 404) {
        this.#on.state(refusal || "This task cannot be read any more.");
      } else {
        this.#on.state(refusal ? `Not connected: ${refusal}. Trying again…` : "Not connected, trying again…");
        this.#timer = setTimeout(() => this.#open(), this.#pauseMs * (0.5 + Math.random()));
        this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2);
      }
    });
  }

  /** The attempt whose output was shown; 0 before the first, and when nobody has said so. */
  get attempt() {
    return this.#attempt;
  }

  #beginAttempt(number) {
    this.#attempt = number;
    this.#shown = { stdout: 0, stderr: 0 };
    this.#reached = { stdout: 0, stderr: 0 };
    this.#decoders = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  }

  #take(frame) {
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#on.state("");
    if (frame.type === "status") {
      if (frame.attempt !== this.#attempt) {
        const before = this.#attempt;
        this.#beginAttempt(frame.attempt);
        this.#on.attempt(frame.attempt, before);
      }
      this.#on.status(frame.status);
    } else if (frame.type === "output") this.#output(frame);
    else if (frame.type === "gap") {
      this.#reached[frame.stream] += frame.bytes;
      this.#gap(frame.stream, this.#reached[frame.stream] - this.#shown[frame.stream]);
    } else if (frame.type === "end") this.#on.end(frame);
  }

  #output({ stream, offset, data }) {
    let content = bytesOf(data);
    const end = offset + content.length;
    this.#reached[stream] = end;
    if (end <= this.#shown[stream]) return;
    if (offset < this.#shown[stream]) content = content.subarray(this.#shown[stream] - offset);
    this.#shown[stream] = end;
    this.#on.output(stream, this.#decoders[stream].decode(content, { stream: true }));
  }

  #gap(stream, count) {
    if (count <= 0) return;
    this.#shown[stream] += count;
    this.#on.output(stream, this.#decoders[stream].decode());
    this.#on.gap(stream, count);
  }
}

/**
 * Return the end of what was kept of a stream of an attempt that has ended, and how many bytes stand before it.
 * `writtenBytes` is how much the command wrote.
 */
export async function storedTail(taskId, attempt, stream, writtenBytes) {
  if (writtenBytes === 0) return { text: "", bytesBefore: 0 };
  const path = `/api/v1/tasks/${taskId}/${stream}?attempt=${attempt}`;
  const headers = writtenBytes > TAIL_BYTES ? { Range: `bytes=-${TAIL_BYTES}` } : {};
  const response = await fetch(path, { headers, credentials: "same-origin" });
  if (!response.ok) throw new Error(`The output cannot be read: the server answered ${response.status}.`);
  const text = new TextDecoder().decode(await response.arrayBuffer());
  const bytesBefore = Number(/^bytes (\d+)-/.exec(response.headers.get("Content-Range") || "")?.[1] || 0);
  return { text: bytesBefore ? text.slice(text.indexOf("\n") + 1) : text, bytesBefore };
}
