// The page of the chat: what rooms.rs says on one side, the document on the other.
// Everything that people typed goes into the document by textContent, never as markup.

const $ = (id) => document.getElementById(id);
const log = $("messages");

const MAX_SHOWN = 500; // a page left open must not grow for ever
const GROUP_WITHIN = 5 * 60_000; // ms between messages that still stand together
const FIRST_DELAY = 500; // ms before the first attempt to reconnect
const MAX_DELAY = 30_000;

let wish = null; // the name and the room asked for, and asked for again after a reconnect
let socket = null;
let connected = false; // the room has welcomed us on this socket
let attempts = 0; // since we were last connected
let goingAway = false; // the server said so when it closed
let retryTimer;
let me = "";
const mine = new Set(); // the names given to us: another one if the old connection lingers
let following = true; // the newest message is in view, and shall stay in view

// --- The connection

function connect() {
  clearTimeout(retryTimer);
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.onopen = () => send({ type: "join", ...wish });
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = ({ code }) => reconnect(code);
}

function reconnect(code) {
  connected = false;
  // 1001: going away, 1012: service restart. Still true while the next attempts fail.
  goingAway ||= code === 1001 || code === 1012;
  showStatus(goingAway ? "server going away, reconnecting…" : "reconnecting…");
  // Up to half of the delay is left to chance: not everybody shall come back at the same moment.
  const delay = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** attempts);
  attempts += 1;
  retryTimer = setTimeout(connect, delay * (0.5 + Math.random() / 2));
}

function send(message) {
  socket.send(JSON.stringify(message));
}

function receive(message) {
  switch (message.type) {
    case "welcome":
      return welcome(message);
    case "said":
      return showMessage(message);
    case "joined":
    case "left":
      showPeople(message.people);
      return showEvent(`${message.name} ${message.type}`);
    case "error":
      return showError(message.text);
  }
}

function welcome({ name, room, people, history }) {
  connected = true;
  attempts = 0;
  goingAway = false;
  me = name;
  mine.add(name);
  document.title = `${room} · Chat`;
  $("room-name").textContent = room;

  const first = $("chat").hidden;
  $("door").hidden = true;
  $("chat").hidden = false;
  showStatus("connected");
  showPeople(people);
  log.ariaBusy = "true"; // the history is not news to be read out
  log.replaceChildren();
  following = true;
  history.forEach(showMessage);
  log.ariaBusy = "false";
  if (first) $("composer").focus();
}

// Coming back after a while without network, nobody wants to wait for the timer.
addEventListener("online", () => {
  if (socket?.readyState === WebSocket.CLOSED) connect();
});

// --- The document

function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

// A hue of its own for each name, the same on everybody's screen; page.css sees to the contrast.
function named(node, name) {
  const hash = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 65_521, 7);
  node.style.setProperty("--hue", Math.round((hash * 137.508) % 360));
  return node;
}

function showStatus(text) {
  $("status").textContent = text;
  $("status").toggleAttribute("data-connected", connected);
  $("send").disabled = !connected;
  if (wish) $("door-status").textContent = text;
}

function showPeople(names) {
  $("people-count").textContent = names.length;
  $("people").replaceChildren(
    ...names.map((name) => named(element("li", name === me ? "me" : "", name), name)),
  );
}

function showMessage({ author, text, time }) {
  const before = log.lastElementChild;
  const grouped = before?.dataset.author === author && time - before.dataset.time < GROUP_WITHIN;
  const node = element("div", "message", "");
  node.classList.toggle("mine", mine.has(author));
  node.classList.toggle("grouped", grouped);
  Object.assign(node.dataset, { author, time });
  node.append(
    named(element("span", "author", author), author),
    element("span", "text", text),
    clock(new Date(time)),
  );
  show(node);
}

function showEvent(text) {
  show(element("p", "event", text));
}

function show(node) {
  log.append(node);
  while (log.childElementCount > MAX_SHOWN) log.firstElementChild.remove();
  if (following) scrollDown();
  else $("newest").hidden = false;
}

function clock(date) {
  const node = element("time", "", date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  if (date.toDateString() !== new Date().toDateString()) {
    node.prepend(date.toLocaleDateString([], { day: "numeric", month: "short" }), " ");
  }
  node.dateTime = date.toISOString();
  return node;
}

function showError(text) {
  if (!connected) return stop(text);
  $("notice").textContent = text;
  $("notice").hidden = false;
}

// Refused at the door: trying again would change nothing.
function stop(text) {
  socket.onclose = null;
  socket.close();
  $("door").hidden = false;
  $("chat").hidden = true;
  $("join").disabled = false;
  $("door-status").textContent = text;
}

function scrollDown() {
  log.scrollTop = log.scrollHeight;
  $("newest").hidden = true;
}

log.addEventListener("scroll", () => {
  following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  if (following) $("newest").hidden = true;
});
new ResizeObserver(() => following && scrollDown()).observe(log);
$("newest").addEventListener("click", () => {
  scrollDown();
  $("composer").focus();
});

// --- What the user does

$("join-form").addEventListener("submit", (event) => {
  event.preventDefault();
  join($("name").value, $("room").value);
});

$("composer-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("composer").value.trim();
  if (!connected || !text) return;
  following = true;
  send({ type: "say", text });
  $("composer").value = "";
  $("composer").focus();
  $("notice").hidden = true;
});

function join(name, room) {
  wish = { name, room };
  $("join").disabled = true;
  showStatus("connecting…");
  connect();
  // A link to the room, for others: without our name.
  if (!query.has("name")) history.replaceState(null, "", `?room=${encodeURIComponent(room)}`);
}

const query = new URLSearchParams(location.search);
if (query.get("name")) $("name").value = query.get("name");
if (query.get("room")) $("room").value = query.get("room");
if (query.get("name") && query.get("room")) join(query.get("name"), query.get("room"));
