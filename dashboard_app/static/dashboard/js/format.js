// Numbers and moments as people say them.

/** Return seconds as 0.4 s, 12 s, 3 min 05 s, 2 h 07 min, 4 d 3 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  const pad = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** Return how many seconds ago a moment (ISO 8601) was. */
export const secondsSince = (iso) => (iso ? Math.max(0, (Date.now() - Date.parse(iso)) / 1000) : null);

/** Return an age that ticks in whole seconds. */
export const age = (seconds) => (seconds < 60 ? `${Math.floor(seconds)} s` : duration(seconds));

/** Return "12 s ago", "5 min ago", "3 h ago", "2 d ago", or "never". */
export function ago(iso) {
  if (!iso) return "never";
  const seconds = Math.floor(secondsSince(iso));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

/** Return a moment in the reader's own time. */
export const moment = (iso) => (iso ? new Date(iso).toLocaleString([], { hourCycle: "h23" }) : "–");

/** Return the time of day in the reader's own time. */
export const clock = (iso) => (iso ? new Date(iso).toLocaleTimeString([], { hourCycle: "h23" }) : "–");

/** Return bytes as 512 B, 5.1 GiB. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Return a count with thousands set apart. */
export const count = (number) => (number === null || number === undefined ? "–" : number.toLocaleString("en-US"));

const KIND_OF_STATUS = {
  queued: "", running: "busy", completed: "good", failed: "bad", cancelled: "warn", lost: "bad", rejected: "warn", assigned: "busy",
  connected: "good", disconnected: "bad", draining: "warn", paused: "warn", pending: "warn", suspended: "warn", revoked: "bad",
};

/** Return the colour class of a task's, an attempt's or a worker's status. */
export const kindOf = (status) => KIND_OF_STATUS[status] ?? "";
