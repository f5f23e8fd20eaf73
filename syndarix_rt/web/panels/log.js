/** The newest events, to be looked through. As of the notebook's `panels/log.py`. */

const CAPACITY = 10_000; // events that can be looked through; a search takes some milliseconds
const MAX_TYPES = 100; // a list to choose from ends somewhere
const TEXT_CHARACTERS = 240; // of an event's data in a line; the rest is in its details

// What the events of a run have in common is told last.
const COMMON = ["role", "issue_id", "branch", "run_id", "sprint_id", "gen_ai.request.model"];

/** Lines {number, time, type, raw}, numbered from 1; of a gap, the type is empty and `raw` is its text. */
export class EventLog {
  types = null;

  /** @param {Map<string, string>} categories of the catalogue's types */
  constructor(categories, capacity = CAPACITY) {
    this.categories = categories;
    this.capacity = capacity;
    this.version = 0;
    this.ring = []; // line n is at (n - 1) % capacity
    this.seen = new Set();
  }

  /** What can be filtered by: categories, then the types that were seen. */
  get filters() {
    const types = [...this.seen].sort();
    const hasCustom = types.some((type) => !this.categories.has(type));
    return [...new Set(this.categories.values()), ...(hasCustom ? ["custom"] : []), ...types];
  }

  see({ type, raw }, time) {
    if (this.seen.size < MAX_TYPES) this.seen.add(type);
    this.put(time, type, raw);
  }

  /** The newest lines that are wanted, newest first: {lines, skipped}; more than `limit` are only counted. */
  matching({ type = "", text = "" }, limit, after = 0) {
    const lines = [];
    let skipped = 0;
    const needle = text.toLowerCase();
    for (let number = this.version; number > Math.max(after, this.version - this.ring.length); number -= 1) {
      const line = this.find(number);
      if (!this.lets(line, type, needle)) continue;
      if (lines.length < limit) lines.push(line);
      else skipped += 1;
    }
    return { lines, skipped };
  }

  /** The line of a number; undefined if it is forgotten. */
  find(number) {
    const line = this.ring[(number - 1) % this.capacity];
    return line?.number === number ? line : undefined;
  }

  prove() {}

  advance() {}

  /** Something was lost. */
  gap(now, label) {
    this.put(now, "", label);
  }

  begin() {} // what came before can still be looked through

  clear() {}

  /** Whether a line is wanted. Gaps always are. */
  lets(line, type, needle) {
    if (!line.type) return true;
    if (type && line.type !== type && (this.categories.get(line.type) ?? "custom") !== type) return false;
    return !needle || line.raw.toLowerCase().includes(needle);
  }

  put(time, type, raw) {
    this.version += 1;
    this.ring[(this.version - 1) % this.capacity] = { number: this.version, time, type, raw };
  }
}

/** What a line says, in short: [its subject, its data as [key, value] with the telling first]; of a gap, its text. */
export function tell(line) {
  if (!line.type) return ["", [["", line.raw]]];
  const { subject = "", data } = exactly(line.raw);
  const keys = Object.keys(data);
  const order = [...keys.filter((key) => !COMMON.includes(key)), ...COMMON.filter((key) => key in data)];
  const pairs = [];
  let left = TEXT_CHARACTERS;
  for (const key of order) {
    const [name, value] = [key.replace(/^gen_ai\./, ""), plain(data[key]).slice(0, left)];
    pairs.push([name, value]);
    left -= name.length + value.length + 2;
    if (left <= 0) break;
  }
  return [subject, pairs];
}

/** A line's event, indented. */
export const indented = (line) => JSON.stringify(exactly(line.raw), null, 2);

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** As `JSON.parse`, but `JSON.stringify` has the numbers again as they were sent: beyond 2^53 they would be rounded. */
function exactly(raw) {
  if (!JSON.rawJSON) return JSON.parse(raw); // a browser of before 2025
  return JSON.parse(raw, (_, value, { source }) => (typeof value === "number" ? JSON.rawJSON(source) : value));
}
