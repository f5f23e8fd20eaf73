const FIRST_DELAY_MS = 1000; // what a restart takes
const MAX_DELAY_MS = 30_000; // nobody watches a dead page for longer
const [FORBIDDEN_FROM, FORBIDDEN_TO] = [4400, 4500]; // no key, not allowed, no such project

/**
 * Open a WebSocket that comes back: after a growing delay with jitter, and for good only when this browser may not enter.
 *
 * @param {string} path relative URL of the route
 * @param {string} protocol the subprotocol
 * @param {object} options
 *   query      called before each connection: what to add to the URL, such as "name=Ada"
 *   onOpen     called when it is open
 *   onMessage  called with each message, decoded
 *   onClose    called when it was cut
 * @returns {{send}} `send(message)` tells whether it could be sent
 */
export function openSocket(path, protocol, { query = () => "", onOpen, onMessage, onClose }) {
  let socket;
  let failures = 0;

  function connect() {
    const url = new URL(path, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = query();
    socket = new WebSocket(url, protocol);
    socket.onopen = () => {
      failures = 0;
      onOpen?.();
    };
    socket.onmessage = ({ data }) => onMessage(JSON.parse(data));
    socket.onclose = ({ code }) => {
      onClose?.(code);
      if (code >= FORBIDDEN_FROM && code < FORBIDDEN_TO) return;
      const delay = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** failures) * (0.5 + Math.random() / 2);
      failures += 1;
      setTimeout(connect, delay);
    };
  }

  connect();
  return {
    send(message) {
      if (socket.readyState !== WebSocket.OPEN) return false;
      socket.send(JSON.stringify(message));
      return true;
    },
  };
}
