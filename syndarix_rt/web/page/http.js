/** Asking the server, and what an answer other than the one that was hoped for means, for people. */

const ANSWER_MS = 10_000; // a server that takes longer is asked again: the connection may be dead
const FORBIDDEN = [401, 403];
const FULL = {
  429: "too many connections come from this address",
  503: "the server has as many connections as it may",
};

/** As `fetch`, but it fails if the answer is not there in time. */
export const ask = (url, options) => fetch(url, { signal: AbortSignal.timeout(ANSWER_MS), ...options });

/**
 * Why there is no better answer.
 *
 * @param {Response | null} answer null: there was none
 * @returns {Promise<{reason: string, atLeast: number, isFinal: boolean}>} `atLeast`: how long to wait before asking again,
 *   in ms, as Retry-After says; `isFinal`: asking again is of no use
 */
export async function refusal(answer) {
  const why = (reason, more) => ({ reason, atLeast: 0, isFinal: false, ...more });
  if (!answer) return why("the server cannot be reached");
  if (FORBIDDEN.includes(answer.status)) {
    return why("this browser has no key: open the URL that the server printed", { isFinal: true });
  }
  const atLeast = 1000 * (Number(answer.headers.get("retry-after")) || 0);
  // There is room again already: what was refused a moment ago is worth another try.
  if (answer.ok) return why("the server broke the stream off", { atLeast });
  const { type } = await answer.json().catch(() => ({})); // a proxy answers in HTML
  const isFull = type === "urn:syndarix-rt:problem:limit-connections";
  const reason = (isFull && FULL[answer.status]) || `the server answers ${answer.status}`;
  return why(atLeast ? `${reason}; again in ${atLeast / 1000} s` : reason, { atLeast });
}
