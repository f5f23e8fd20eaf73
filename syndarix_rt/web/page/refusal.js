/** What an answer other than the one that was hoped for means, for people, and how long to wait before asking again. */

const FULL = {
  429: "too many connections come from this address",
  503: "the server has as many connections as it may",
};

/**
 * @param {Response} answer
 * @returns {Promise<{reason: string, atLeast: number}>} `atLeast`: what Retry-After says, in ms
 */
export async function refusal(answer) {
  const atLeast = 1000 * (Number(answer.headers.get("retry-after")) || 0);
  // There is room again already: what was refused a moment ago is worth another try.
  if (answer.ok) return { reason: "the server broke the stream off", atLeast };
  const { type } = await answer.json().catch(() => ({})); // a proxy answers in HTML
  const isFull = type === "urn:syndarix-rt:problem:limit-connections";
  const reason = (isFull && FULL[answer.status]) || `the server answers ${answer.status}`;
  return { reason: atLeast ? `${reason}; again in ${atLeast / 1000} s` : reason, atLeast };
}
