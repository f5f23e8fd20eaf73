/**
 * What panels see of an event: {id, type, time, recorded, simulation, subject, cause, data, raw}. Times are seconds since
 * 1970, `recorded` undefined if it is not told, `raw` the event's JSON.
 */
export function sightingOf(raw) {
  const { id, type, time, recordedtime, simulation, subject, cause, data } = JSON.parse(raw);
  const recorded = recordedtime === undefined ? undefined : secondsOf(recordedtime);
  return { id, type, time: secondsOf(time), recorded, simulation, subject, cause, data, raw };
}

/** An RFC 3339 time as seconds since 1970, to the microsecond: `Date` knows milliseconds only. */
export function secondsOf(text) {
  const dot = text.indexOf(".", 18);
  if (dot < 0) return Date.parse(text) / 1000;
  let end = dot + 1;
  while (text.charCodeAt(end) >= 48 && text.charCodeAt(end) <= 57) end += 1;
  const whole = Date.parse(text.slice(0, dot) + text.slice(end));
  return (whole * 1000 + Number(text.slice(dot + 1, Math.min(end, dot + 7)).padEnd(6, "0"))) / 1e6;
}
