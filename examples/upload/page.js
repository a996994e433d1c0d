// The page that uploads files. A file goes in slices, each a binary message, and the server says what it has. What it has, it keeps: the
// page goes on from there after a pause, a lost connection, or, when the same file is chosen again, a reload.

import { retryDelay } from "./connection.js";

const $ = (id) => document.getElementById(id);
const main = document.querySelector("main");

const SLICE = 512 * 1024; // bytes in a message
const WINDOW = 4 * 1024 * 1024; // bytes under way at most: enough for a fast network, and the browser has no more in memory
const NOT_FOUND = 4404; // the server does not have the file any more
const REFUSED = [1003, 1007, 1008, 1009, 4507]; // the next attempt would end the same way; 4507: there is no room

let file = null;
let id = null; // the server's name for it
let socket = null;
let timer = null;
let isAborting = false;
let attempts = 0;
let offset = 0; // up to where it was sent
let acknowledged = 0; // up to where the server has it
let began = null; // when this connection began to send, and from where: { time, offset }

// --- What this browser remembers of a file that is not complete, for after a reload

const key = () => `upload:${JSON.stringify([file.name, file.size, file.lastModified])}`;

function remember() {
  localStorage.setItem(key(), id);
}

function forget() {
  localStorage.removeItem(key());
  id = null;
}

function hint() {
  const names = Object.keys(localStorage)
    .filter((name) => name.startsWith("upload:"))
    .map((name) => JSON.parse(name.slice("upload:".length))[0]);
  $("hint").textContent = names.length ? `Not complete: ${names.join(", ")}. Choose the same file again to go on.` : "";
}

// --- The connection

function choose(chosen) {
  file = chosen;
  id = localStorage.getItem(key());
  attempts = offset = acknowledged = 0;
  isAborting = false;
  $("name").textContent = file.name;
  $("upload").hidden = false;
  $("result").hidden = true;
  $("hint").textContent = "";
  connect();
}

function connect() {
  clearTimeout(timer);
  const url = new URL("/upload", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const connection = new WebSocket(url);
  socket = connection;
  began = null;
  show("connecting", "Connecting…");
  connection.onopen = () => {
    if (connection !== socket) return;
    tell(id ? { type: "resume", id } : { type: "begin", name: file.name, size: file.size });
    if (id) show("connecting", "The server looks at what it has…");
  };
  connection.onmessage = ({ data }) => {
    if (connection === socket) receive(JSON.parse(data));
  };
  connection.onclose = ({ code, reason }) => {
    if (connection === socket) lost(code, reason);
  };
}

const tell = (message) => socket.send(JSON.stringify(message));

/** Leaves the connection, whose last events are for nobody. */
function leave() {
  const connection = socket;
  socket = null;
  connection?.close();
}

function receive(message) {
  switch (message.type) {
    case "ready":
      ({ id, offset } = message);
      acknowledged = offset;
      attempts = 0;
      began = { time: performance.now(), offset };
      remember();
      if (isAborting) return abort();
      show("sending", offset > 0 ? `Going on from ${size(offset)}` : "Sending");
      return send();
    case "received":
      acknowledged = message.offset;
      draw();
      return send();
    case "done":
      acknowledged = file.size;
      forget();
      leave();
      $("sha256").textContent = message.sha256;
      $("command").textContent = `download ${location.origin.replace("http", "ws")}/files/${message.id} FILE`;
      $("result").hidden = false;
      return show("done", "Complete");
    case "aborted":
      return aborted();
  }
}

/** Sends the next slices, as many as may be under way. The browser reads them from the disk when it sends them. */
function send() {
  while (offset < file.size && offset - acknowledged < WINDOW) {
    const slice = file.slice(offset, offset + SLICE);
    socket.send(slice);
    offset += slice.size;
  }
}

function lost(code, reason) {
  socket = null;
  if (code === NOT_FOUND && id) {
    if (isAborting) return aborted();
    forget();
    return connect(); // from the beginning
  }
  if (REFUSED.includes(code)) {
    forget();
    return show("failed", `The server refused: ${reason || code}`);
  }
  show("disconnected", `The connection is lost${reason ? ` (${reason})` : ""}. Trying again…`);
  timer = setTimeout(connect, retryDelay(attempts));
  attempts += 1;
}

// --- The person

$("file").addEventListener("change", () => {
  const [chosen] = $("file").files;
  if (chosen) choose(chosen);
  $("file").value = ""; // so that the same file can be chosen again
});

for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(type, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", type === "dragenter" || type === "dragover");
    const [dropped] = type === "drop" && !$("file").disabled ? event.dataTransfer.files : [];
    if (dropped) choose(dropped);
  });
}

$("pause").addEventListener("click", () => {
  if (main.dataset.state === "paused") return connect();
  clearTimeout(timer);
  leave();
  show("paused", `Paused at ${size(acknowledged)}`);
});

$("abort").addEventListener("click", () => {
  isAborting = true;
  if (main.dataset.state === "sending") return abort();
  clearTimeout(timer);
  leave();
  if (!id) return aborted();
  connect(); // only the connection that has the upload may remove it
});

function abort() {
  tell({ type: "abort" });
  show("aborting", "The server removes it…");
}

function aborted() {
  forget();
  leave();
  $("upload").hidden = true;
  show("idle", "");
}

// --- The document

function show(state, text) {
  main.dataset.state = state;
  const busy = ["connecting", "sending", "disconnected", "aborting"].includes(state);
  main.toggleAttribute("data-busy", busy);
  $("file").disabled = busy;
  $("status").textContent = text;
  $("pause").textContent = state === "paused" ? "Go on" : "Pause";
  $("buttons").hidden = state === "done" || state === "failed";
  $("pause").disabled = $("abort").disabled = state === "aborting";
  if (!busy) hint();
  draw();
}

function draw() {
  if (!file) return;
  const part = file.size ? acknowledged / file.size : Number(main.dataset.state === "done");
  $("progress").value = part;
  $("progress").textContent = `${Math.floor(part * 100)} %`;
  $("sent").textContent = `${size(acknowledged)} of ${size(file.size)}`;
  const seconds = began ? (performance.now() - began.time) / 1000 : 0;
  const rate = seconds > 0.2 ? (acknowledged - began.offset) / seconds : 0;
  $("rate").textContent = main.dataset.state === "sending" && rate > 0 ? `${size(rate)}/s` : "";
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes.toLocaleString([], { maximumFractionDigits: bytes < 10 && unit > 0 ? 1 : 0 })} ${units[unit]}`;
}

hint();
