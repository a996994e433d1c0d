// What the pages have in common that connect again when their connection ends.

const FIRST_DELAY = 500; // ms before the first attempt to reconnect
const MAX_DELAY = 30_000;

/** The ms before the next attempt to reconnect, after so many since the page was last connected. */
export function retryDelay(attempts) {
  // A random part keeps the pages from reconnecting all at once.
  return Math.min(MAX_DELAY, FIRST_DELAY * 2 ** attempts) * (0.5 + Math.random() / 2);
}

/**
 * Opens a connection with `open`, which returns its socket, and another one whenever it ends. Calls `interrupted` when one has
 * ended, or the first can not be opened, but not for the attempts after it. The page shows the state in `main`, `#status` and
 * `#banner`.
 */
export function stayConnected(open, interrupted) {
  let attempts = 0;

  function connect() {
    const socket = open();
    socket.onopen = () => {
      attempts = 0;
      showState("connected", "connected");
    };
    socket.onclose = ({ code }) => {
      if (attempts === 0) {
        // 1001: going away, 1012: service restart
        const why = code === 1001 || code === 1012 ? "the server shut down" : "the connection broke";
        document.getElementById("banner").textContent = `Disconnected: ${why}. Reconnecting…`;
        interrupted();
      }
      showState("disconnected", "reconnecting…");
      setTimeout(connect, retryDelay(attempts));
      attempts += 1;
    };
  }

  connect();
}

function showState(state, text) {
  document.querySelector("main").dataset.state = state;
  document.getElementById("status").textContent = text;
  document.getElementById("banner").hidden = state !== "disconnected";
}
