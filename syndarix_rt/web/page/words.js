/** Numbers in words, as panels show them. */

const UNITS = [[86_400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
const numbers = new Intl.NumberFormat("en");

export const count = (value) => numbers.format(value);

export const plural = (value, word) => `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** Such as "3 min 20 s"; two units at most. */
export function duration(seconds) {
  const whole = Math.max(seconds, 0);
  const found = UNITS.find(([size]) => whole >= size);
  if (!found) return `${Math.round(whole)} s`;
  const [size, unit, part, partUnit] = found;
  const rest = Math.floor((whole % size) / part);
  return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${partUnit}` : ""}`;
}
