// The page of the feed: each binary message is one datagram. Text messages, in JSON, say where the datagrams for this page begin,
// and how many it has missed.

import { stayConnected } from "./connection.js";
import { Plot, color } from "./plots.js";

const $ = (id) => document.getElementById(id);
const main = document.querySelector("main");
const canvas = $("plot");

const SPAN = 30_000; // ms that the plot goes back
const FRAME = 50; // ms between two drawings while no datagram arrives
const MAX_SERIES = 8;
const MAX_VALUE = 1e12; // larger numbers (and Infinity) are not plotted as numbers

const decoder = new TextDecoder();
const drawing = new Plot(canvas, { span: SPAN, bin: 25 });
let count = 0;
let last = null; // the text of the latest datagram
let latest = []; // its values
let plotsLength = false; // it was not made of numbers
let missed = 0; // datagrams that did not come, as far as the server knows
let position = null; // up to which this page has the datagrams: { topic, number }

// --- The connection

function open() {
  const url = new URL("/", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  if (position) url.search = new URLSearchParams({ since: `${position.topic}-${position.number}` });
  let ahead = 0n; // what came before the server has said where it begins
  let begun = false;
  const advance = (number) => {
    if (begun) position.number += number;
    else ahead += number;
  };
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") {
      advance(1n);
      return receive(data);
    }
    const told = JSON.parse(data);
    if (told.position) {
      const [topic, number] = told.position.split("-");
      position = { topic, number: BigInt(number) + ahead };
      begun = true;
    } else {
      advance(BigInt(told.missed));
    }
    miss(told.missed ?? 0); // `null` is an unknown number
  };
  return socket;
}

function miss(more) {
  missed += more;
  if (missed > 0) $("missed").textContent = `${missed.toLocaleString()} were missed`;
}

function receive(datagram) {
  last = decoder.decode(datagram);
  const numbers = last.split(/[\s,]+/).filter(Boolean).map(Number);
  plotsLength = numbers.length === 0 || !numbers.every((number) => Math.abs(number) < MAX_VALUE);
  latest = plotsLength ? [datagram.byteLength] : numbers.slice(0, MAX_SERIES);
  count += 1;
  drawing.add(performance.now(), latest);
  redraw();
}

// --- The command of the empty page

// The address that the UDP socket is bound to. If that is "any address of this machine", the host of this page is one.
function udpAddress() {
  const [, bound, port] = main.dataset.udp.match(/^\[?(.*?)\]?:(\d+)$/);
  if (bound !== "0.0.0.0" && bound !== "::") return [bound, port];
  const host = location.hostname.replace(/^\[|\]$/g, "");
  if (host === "localhost") return [bound === "::" ? "::1" : "127.0.0.1", port];
  // The command goes into a shell, and the name in a link may hold a quote.
  return [/^[\w.:-]+$/.test(host) ? host : "HOST", port];
}

$("command").textContent = `bash -c 'echo 42 >/dev/udp/${udpAddress().join("/")}'`;
$("copy").addEventListener("click", () => {
  getSelection().selectAllChildren($("command"));
  // `navigator.clipboard` exists only on HTTPS and localhost, this everywhere.
  $("copy").textContent = document.execCommand("copy") ? "Copied" : "Selected";
});

// --- The document, at most once per frame: datagrams may arrive faster.

let asked = false;

function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    $("count").textContent = count.toLocaleString();
    if (last !== null) $("last").textContent = last.slice(0, 500) || "(empty)";
    $("empty").hidden = count > 0;
    plot(performance.now());
  });
}

setInterval(redraw, FRAME); // the time axis moves on

let counted = 0;
let countedAt = performance.now();

setInterval(() => {
  const now = performance.now();
  const rate = ((count - counted) * 1000) / (now - countedAt);
  $("rate").textContent = rate.toLocaleString([], { maximumFractionDigits: rate < 10 ? 1 : 0 });
  [counted, countedAt] = [count, now];
}, 1000);

// --- The plot

function plot(now) {
  const { isEmpty, low, high } = drawing.draw(now, { hasValues: count > 0, every: 10_000 });
  const unit = plotsLength ? "length in bytes" : "values";
  const period = `${SPAN / 1000} seconds`;
  if (count > 0) $("what").textContent = isEmpty ? `no datagrams in the last ${period}` : `${unit}, last ${period}`;
  canvas.setAttribute("aria-label", `${$("what").textContent}, on an axis from ${low} to ${high}`);
  showLegend();
}

function showLegend() {
  $("legend").replaceChildren(
    ...latest.map((value, index) => {
      const node = document.createElement("span");
      node.textContent = value.toLocaleString([], { maximumSignificantDigits: 6 });
      node.style.setProperty("--color", color(index));
      return node;
    }),
  );
}

new ResizeObserver(redraw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
stayConnected(open, () => drawing.interrupt(performance.now()));
