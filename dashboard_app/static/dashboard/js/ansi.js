// What programs print for a terminal, as styled text: colours and typefaces, and lines that are written over.
//
// Text comes in pieces, torn anywhere. Whatever else a terminal would obey (titles, links, moves of the cursor) is
// swallowed, and no control character comes through. Nothing here reads HTML.

const LONGEST_ESCAPE = 4096;
const LONGEST_LINE = 4096;
const TAB = 8;
const MOST_PARAMETERS = 32;

/** How text looks; `fg` and `bg` are null, a number from 0 to 15, or [red, green, blue]. Never changed, only replaced. */
const PLAIN = Object.freeze({ fg: null, bg: null, bold: false, dim: false, italic: false, underline: false, strike: false, inverse: false });

// Characters that turn the direction of what follows could make a line read as another than it is.
const PRINTABLE = /[^\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]+/y;
const TURNS_DIRECTION = /[\u202a-\u202e\u2066-\u2069]/;
const REPLACEMENT = "\ufffd";

const [TEXT, ESCAPE, SEQUENCE, STRING, STRING_END, CHARSET] = [0, 1, 2, 3, 4, 5];

/** Reads one stream. */
export class Ansi {
  #style = PLAIN;
  #mode = TEXT;
  #escape = "";
  #escapeLength = 0;
  #line = new Line();

  /** Take the next piece of text and return the lines that it finished, each a list of {style, text}. */
  write(text) {
    const finished = [];
    let at = 0;
    while (at < text.length) {
      if (this.#mode !== TEXT) {
        at = this.#swallow(text, at, finished);
        continue;
      }
      PRINTABLE.lastIndex = at;
      if (PRINTABLE.test(text)) {
        this.#print(text.slice(at, PRINTABLE.lastIndex), finished);
        at = PRINTABLE.lastIndex;
      } else {
        this.#control(text[at], finished);
        at += 1;
      }
    }
    return finished;
  }

  /** The line that no newline has finished yet. */
  get open() {
    return this.#line.runs();
  }

  #print(text, finished) {
    let rest = text;
    while (rest) {
      let room = LONGEST_LINE - this.#line.cursor;
      if (room <= 0) {
        this.#finish(finished);
        continue;
      }
      if (room < rest.length && isHighSurrogate(rest.charCodeAt(room - 1))) room += 1;
      this.#line.put(rest.slice(0, room), this.#style);
      rest = rest.slice(room);
    }
  }

  #finish(finished) {
    finished.push(this.#line.runs());
    this.#line = new Line();
  }

  #control(sign, finished) {
    if (sign === "\n" || sign === "\v" || sign === "\f") this.#finish(finished);
    else if (sign === "\r") this.#line.cursor = 0;
    else if (sign === "\b") this.#line.cursor = Math.max(0, this.#line.cursor - 1);
    else if (sign === "\t") this.#tab(finished);
    else if (sign === "\u001b") this.#begin(ESCAPE);
    else if (sign === "\u009b") this.#begin(SEQUENCE);
    else if ("\u0090\u0098\u009d\u009e\u009f".includes(sign)) this.#begin(STRING);
    else if (TURNS_DIRECTION.test(sign)) this.#print(REPLACEMENT, finished);
  }

  #tab(finished) {
    // Whoever copies the line wants the tab; over what is there already it only moves.
    if (this.#line.isAtEnd) this.#print("\t", finished);
    else this.#line.cursor += TAB - (this.#line.cursor % TAB);
  }

  #begin(mode) {
    this.#mode = mode;
    this.#escape = "";
    this.#escapeLength = 0;
  }

  /** Take one character of an escape sequence; return where to go on. */
  #swallow(text, at, finished) {
    const sign = text[at];
    const code = text.charCodeAt(at);
    this.#escapeLength += 1;
    if (this.#escapeLength > LONGEST_ESCAPE) {
      this.#mode = TEXT;
      return at;
    }
    if (this.#mode === STRING || this.#mode === STRING_END) {
      if (this.#mode === STRING_END && sign === "\\") this.#mode = TEXT;
      else if (sign === "\u001b") this.#mode = STRING_END;
      else if (sign === "\u0007" || sign === "\u009c") this.#mode = TEXT;
      else if (sign === "\n") return this.#breakOff(at);
      else this.#mode = STRING;
      return at + 1;
    }
    if (sign === "\u001b") {
      this.#begin(ESCAPE);
      return at + 1;
    }
    if (code < 0x20 || code > 0x7e) return this.#breakOff(at);
    if (this.#mode === SEQUENCE) {
      if (code < 0x40) this.#escape += sign;
      else {
        this.#mode = TEXT;
        this.#obey(sign);
      }
      return at + 1;
    }
    if (this.#mode === ESCAPE && sign === "[") this.#begin(SEQUENCE);
    else if (this.#mode === ESCAPE && "]PX^_".includes(sign)) this.#begin(STRING);
    else if (code < 0x30) this.#mode = CHARSET;
    else {
      this.#mode = TEXT;
      if (sign === "c") this.#style = PLAIN;
    }
    return at + 1;
  }

  /** What cannot belong to the sequence ends it, and is read as text. */
  #breakOff(at) {
    this.#mode = TEXT;
    return at;
  }

  #obey(final) {
    if (final === "m" && /^[0-9;:]*$/.test(this.#escape)) this.#style = styled(this.#style, this.#escape);
    else if (final === "K" && /^[0-2]?$/.test(this.#escape)) this.#line.erase(Number(this.#escape));
  }
}

/** One line while it is written: runs of text, or single characters as soon as something is written over. */
class Line {
  cursor = 0;
  #length = 0;
  #runs = [];
  #cells = null;

  get isAtEnd() {
    return this.cursor === this.#length;
  }

  put(text, style) {
    if (this.#cells === null && this.isAtEnd) {
      const last = this.#runs[this.#runs.length - 1];
      if (last && isSame(last.style, style)) last.text += text;
      else this.#runs.push({ style, text });
      this.#length += text.length;
      this.cursor = this.#length;
      return;
    }
    const cells = this.#asCells();
    for (const sign of text) {
      while (cells.length < this.cursor) cells.push({ style: PLAIN, text: " " });
      cells[this.cursor] = { style, text: sign };
      this.cursor += 1;
    }
    this.#length = cells.length;
  }

  /** Erase from the cursor to the end (0), from the start to the cursor (1), or all (2). */
  erase(what) {
    if (what === 0 && this.isAtEnd) return;
    const cells = this.#asCells();
    if (what === 0) cells.length = Math.min(cells.length, this.cursor);
    else if (what === 2) cells.length = 0;
    else for (let at = 0; at <= this.cursor && at < cells.length; at += 1) cells[at] = { style: PLAIN, text: " " };
    this.#length = cells.length;
  }

  runs() {
    if (this.#cells === null) return this.#runs;
    const runs = [];
    for (const cell of this.#cells) {
      const last = runs[runs.length - 1];
      if (last && isSame(last.style, cell.style)) last.text += cell.text;
      else runs.push({ ...cell });
    }
    return runs;
  }

  #asCells() {
    if (this.#cells === null) {
      const before = this.#runs.map((run) => run.text).join("").slice(0, this.cursor);
      const beyond = Math.max(0, this.cursor - this.#length);
      this.#cells = this.#runs.flatMap(({ style, text }) => Array.from(text, (sign) => ({ style, text: sign })));
      // Places in a run count halves of characters, cells whole ones.
      this.cursor = Array.from(before).length + beyond;
      this.#length = this.#cells.length;
    }
    return this.#cells;
  }
}

const isHighSurrogate = (code) => code >= 0xd800 && code <= 0xdbff;

const sameColour = (one, other) => one === other || (Array.isArray(one) && Array.isArray(other) && one.join() === other.join());

function isSame(one, other) {
  if (one === other) return true;
  const { fg, bg, ...rest } = one;
  return sameColour(fg, other.fg) && sameColour(bg, other.bg) && Object.keys(rest).every((name) => one[name] === other[name]);
}

// --- colours and typefaces

const SWITCHES = {
  1: { bold: true }, 2: { dim: true }, 3: { italic: true }, 4: { underline: true }, 7: { inverse: true }, 9: { strike: true },
  21: { underline: true }, 22: { bold: false, dim: false }, 23: { italic: false }, 24: { underline: false },
  27: { inverse: false }, 29: { strike: false }, 39: { fg: null }, 49: { bg: null },
};

/** Return the style after the parameters of `ESC [ ... m`. */
function styled(before, parameters) {
  let style = before;
  const parts = parameters.split(";").slice(0, MOST_PARAMETERS);
  for (let at = 0; at < parts.length; at += 1) {
    const [code, ...inside] = parts[at].split(":").map((part) => Number(part || 0));
    if (code === 0) style = PLAIN;
    else if (code === 38 || code === 48 || code === 58) {
      const values = inside.length ? inside : parts.slice(at + 1, at + 5).map((part) => Number(part || 0));
      const [colour, used] = extended(values, inside.length > 4);
      if (!inside.length) at += used;
      if (colour !== undefined && code !== 58) style = { ...style, [code === 38 ? "fg" : "bg"]: colour };
    } else if (code >= 30 && code <= 37) style = { ...style, fg: code - 30 };
    else if (code >= 40 && code <= 47) style = { ...style, bg: code - 40 };
    else if (code >= 90 && code <= 97) style = { ...style, fg: code - 82 };
    else if (code >= 100 && code <= 107) style = { ...style, bg: code - 92 };
    else if (code === 4 && inside[0] === 0) style = { ...style, underline: false };
    else if (code in SWITCHES) style = { ...style, ...SWITCHES[code] };
  }
  return style;
}

/** Return the colour that `5;n` or `2;r;g;b` says, and how many values that took; undefined when it says none. */
function extended(values, hasSpace) {
  if (values[0] === 5) return [indexed(values[1] ?? 0), 2];
  if (values[0] !== 2) return [undefined, 1];
  const rgb = values.slice(hasSpace ? 2 : 1).slice(0, 3);
  return [rgb.length === 3 && rgb.every((part) => part <= 255) ? rgb : undefined, 4];
}

function indexed(number) {
  if (number > 255) return undefined;
  if (number < 16) return number;
  if (number > 231) return Array(3).fill(8 + 10 * (number - 232));
  const step = (part) => (part === 0 ? 0 : 55 + 40 * part);
  const cube = number - 16;
  return [step(Math.floor(cube / 36)), step(Math.floor(cube / 6) % 6), step(cube % 6)];
}

// --- what the page shows

const TYPEFACES = ["bold", "dim", "italic", "underline", "strike"];
/** The terminal's background in tokens.css, the lighter of both themes. */
const GROUND = [16, 21, 28];
const LIGHT = [219, 227, 238];
const INK = [10, 14, 19];
const LEAST_CONTRAST = 4.5;

/** Return the nodes of a line: text, and spans with classes of css/ansi.css. */
export const nodesOf = (runs) => runs.map(({ style, text }) => (style === PLAIN ? document.createTextNode(text) : spanOf(style, text)));

function spanOf(style, text) {
  const span = document.createElement("span");
  const classes = TYPEFACES.filter((name) => style[name]);
  let { fg, bg } = style;
  if (style.inverse) {
    // Dark text on the text's own colour; a colour swapped with none stays visible as it is.
    if (fg === null && bg === null) classes.push("inverse");
    else [fg, bg] = [bg ?? (Array.isArray(fg) ? INK : 0), fg ?? 7];
  }
  if (Array.isArray(bg)) span.style.backgroundColor = `rgb(${bg.join(" ")})`;
  else if (bg !== null) classes.push(`bg${bg}`);
  if (Array.isArray(fg) || (Array.isArray(bg) && fg === null)) {
    span.style.color = `rgb(${readable(fg ?? LIGHT, Array.isArray(bg) ? bg : GROUND).join(" ")})`;
  } else if (fg !== null) classes.push(`fg${fg}`);
  if (classes.length) span.className = classes.join(" ");
  span.textContent = text;
  return span;
}

function luminance(rgb) {
  const [red, green, blue] = rgb.map((part) => (part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

/** Return the colour, moved towards white or black as far as it takes to be read on the ground. */
function readable(colour, ground) {
  const goal = contrast([255, 255, 255], ground) >= LEAST_CONTRAST ? 255 : 0;
  for (let part = 0; part < 1; part += 0.1) {
    const moved = colour.map((value) => Math.round(value + (goal - value) * part));
    if (contrast(moved, ground) >= LEAST_CONTRAST) return moved;
  }
  return [goal, goal, goal];
}
