// The page of the chat. It shows the messages that rooms.rs describes.
// Text that people typed enters the document as text nodes, never as markup.

import { retryDelay } from "./connection.js";

const $ = (id) => document.getElementById(id);
const log = $("messages");

const MAX_SHOWN = 500; // messages; a page left open must not grow forever
const GROUP_WITHIN = 5 * 60_000; // ms between messages of one author that share a time stamp
const COLORS = 10; // of names; page.css has as many hues
const MAX_SEEN = 500; // positions, so that no message is shown twice; more than a room keeps
const MAX_COLORED = 200; // names whose color is remembered

let wish = null; // the name and the room asked for; sent again after a reconnect
let socket = null;
let connected = false; // the server has sent `welcome` on this socket
let welcomed = false; // or on an earlier one
let attempts = 0; // since we were last connected
let goingAway = false; // the server said so when it closed
let retryTimer;
let me = "";
const mine = new Set(); // our names; after a reconnect the server may give us another one
let following = true; // the newest message is in view and stays in view
let position = ""; // what this server calls the place behind the last message that it has sent, such as 9f86d081884c7d65-17
let last = 0; // the number of the last message of the history
const seen = new Set(); // the positions of the latest messages, the newest at the end
const early = []; // what was said on this connection before `welcome`
let typing = false; // the composer had the focus when the connection broke

// --- The connection

function connect() {
  clearTimeout(retryTimer);
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  early.length = 0;
  socket.onopen = () => send({ type: "join", ...wish, position });
  socket.onmessage = ({ data }) => receive(JSON.parse(data));
  socket.onclose = ({ code }) => reconnect(code);
}

function reconnect(code) {
  if (connected) typing = document.activeElement === $("composer");
  connected = false;
  // 1001: going away, 1012: service restart. Still true while the next attempts fail.
  goingAway ||= code === 1001 || code === 1012;
  const why = goingAway ? "the server shut down" : "the connection broke";
  $("banner").textContent = `Disconnected: ${why}. Reconnecting…`;
  showState("disconnected", "reconnecting…");
  retryTimer = setTimeout(connect, retryDelay(attempts));
  attempts += 1;
}

function send(message) {
  socket.send(JSON.stringify(message));
}

function receive(message) {
  switch (message.type) {
    case "welcome":
      return welcome(message);
    case "said":
      return connected ? said(message) : early.push(message);
    case "missed":
      return showMissed(message.missed);
    case "joined":
    case "left":
      showPeople(message.people);
      return showEvent(`${message.name} ${message.type}`);
    case "error":
      return showError(message.text);
  }
}

function welcome(message) {
  connected = true;
  attempts = 0;
  goingAway = false;
  me = message.name;
  mine.add(me);
  showRoom(message.room);
  showState("connected", "connected");
  showPeople(message.people);
  if (message.missed !== 0) showMissed(message.missed);
  ({ position, last } = message);
  readAloud();
  early.splice(0).forEach(said);
  if (typing || !welcomed) $("composer").focus();
  typing = false;
  welcomed = true;
}

function said(message) {
  const [life, number] = position.split("-");
  // A message from another server has the position that it has there. Here it was counted like any other.
  position = message.position.startsWith(life) ? message.position : `${life}-${Number(number) + 1}`;
  // The history of another server has messages that the one before has sent.
  if (!seen.has(message.position)) {
    seen.add(message.position);
    if (seen.size > MAX_SEEN) seen.delete(seen.values().next().value);
    showMessage(message);
  }
  readAloud();
}

// A screen reader does not read the history aloud.
function readAloud() {
  log.ariaBusy = String(Number(position.split("-")[1]) < last);
}

// The network is back: reconnect at once instead of waiting for the timer.
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

// The color of a name: usually the same on all pages, and never that of the other names used lately.
const colors = new Map(); // by name, the last used at the end

function colorOf(name) {
  let color = colors.get(name);
  if (color === undefined) {
    color = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 65_521, 7) % COLORS;
    const taken = [...colors.values()].slice(1 - COLORS);
    while (taken.includes(color)) color = (color + 1) % COLORS;
  }
  colors.delete(name);
  colors.set(name, color);
  if (colors.size > MAX_COLORED) colors.delete(colors.keys().next().value);
  return color;
}

function named(node, name) {
  const color = colorOf(name);
  node.classList.add(color % 2 ? "odd" : "even");
  node.style.setProperty("--hue", (color * 360) / COLORS + 15);
  return node;
}

// `text` with its http and https addresses as links. A link ends before punctuation and before an unpaired parenthesis.
const LINK = /\bhttps?:\/\/(?:[^\s<>"()\p{C}]|\([^\s<>"()\p{C}]*\))*(?:[^\s<>"()\p{C}\p{P}]|[\/_&=#%@*-]|\([^\s<>"()\p{C}]*\))/giu;

function withLinks(node, text) {
  let end = 0;
  for (const { 0: address, index } of text.matchAll(LINK)) {
    if (!URL.canParse(address)) continue;
    const link = element("a", "", address);
    link.href = address;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    node.append(text.slice(end, index), link);
    end = index + address.length;
  }
  node.append(text.slice(end));
  return node;
}

// `state` is connecting, connected or disconnected.
function showState(state, text) {
  $("chat").dataset.state = state;
  $("status").textContent = text;
  $("banner").hidden = state !== "disconnected";
  $("composer").disabled = $("send").disabled = !connected;
  $("composer").placeholder = connected ? "Say something" : "Not connected";
  if (wish) $("sign-in-status").textContent = text;
}

function showRoom(room) {
  document.title = `${room} · Chat`;
  $("room-name").textContent = room;
  $("sign-in").hidden = true;
  $("chat").hidden = false;
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
  const date = new Date(time);
  const head = element("div", "head", "");
  head.append(named(element("span", "author", author), author));
  if (!grouped) head.append(clock(date));
  node.classList.toggle("mine", mine.has(author));
  node.classList.toggle("grouped", grouped);
  node.title = date.toLocaleString(); // also of those messages that share a time stamp
  Object.assign(node.dataset, { author, time });
  node.append(head, withLinks(element("div", "text", ""), text));
  show(node);
}

function showEvent(text) {
  show(element("p", "event", text));
}

// `missed` is null if the server does not know: it is another one, was restarted, or was cut off from the others.
function showMissed(missed) {
  if (missed === null) return showEvent("It is not known whether messages were missed");
  showEvent(missed === 1 ? "1 message was missed" : `${missed} messages were missed`);
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

// The server refused to let us join, so another attempt would fail too.
function stop(text) {
  socket.onclose = null;
  socket.close();
  $("sign-in").hidden = false;
  $("chat").hidden = true;
  $("join").disabled = false;
  $("sign-in-status").textContent = text;
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
  position = "";
  seen.clear();
  log.replaceChildren();
  $("join").disabled = true;
  showState("connecting", "connecting…");
  connect();
  // The address becomes a link to the room for others, without our name.
  if (!query.has("name")) history.replaceState(null, "", `?room=${encodeURIComponent(room)}`);
}

const query = new URLSearchParams(location.search);
if (query.get("name")) $("name").value = query.get("name");
if (query.get("room")) $("room").value = query.get("room");
if (query.get("name") && query.get("room")) {
  showRoom(query.get("room"));
  join(query.get("name"), query.get("room"));
} else {
  $("sign-in").hidden = false;
  $("name").focus();
}
