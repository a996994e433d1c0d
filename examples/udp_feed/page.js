// The page of the feed: each binary message is one datagram.

const $ = (id) => document.getElementById(id);
const canvas = $("plot");

const MAX_POINTS = 600; // how many datagrams the plot goes back
const MAX_SERIES = 8;
const MAX_VALUE = 1e12; // what is larger (or infinite) is no number to plot
const FIRST_DELAY = 500; // ms before the first attempt to reconnect
const MAX_DELAY = 30_000;

const decoder = new TextDecoder();
let points = []; // the values of the latest datagrams, each an array
let count = 0;
let last = null;
let plotsLength = false; // the latest datagram was no number
let attempts = 0;

// --- The connection

function connect() {
  const url = new URL("/", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    attempts = 0;
    showStatus("connected", true);
  };
  socket.onmessage = ({ data }) => receive(data);
  socket.onclose = ({ code }) => {
    // 1001: going away, 1012: service restart
    const leaving = code === 1001 || code === 1012;
    showStatus(leaving ? "server going away, reconnecting…" : "reconnecting…", false);
    // Up to half of the delay is left to chance: not everybody shall come back at the same moment.
    const delay = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** attempts) * (0.5 + Math.random() / 2);
    attempts += 1;
    setTimeout(connect, delay);
  };
}

function showStatus(text, connected) {
  $("status").textContent = text;
  $("status").toggleAttribute("data-connected", connected);
}

function receive(datagram) {
  const text = decoder.decode(datagram);
  const numbers = text.split(/[\s,]+/).filter(Boolean).map(Number);
  plotsLength = numbers.length === 0 || !numbers.every((number) => Math.abs(number) < MAX_VALUE);
  points.push(plotsLength ? [datagram.byteLength] : numbers.slice(0, MAX_SERIES));
  if (points.length > MAX_POINTS) points.shift();
  count += 1;
  last = text;
  redraw();
}

// --- The document, at most once for each frame: datagrams may come faster.

let asked = false;

function redraw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    $("count").textContent = count.toLocaleString();
    if (last !== null) $("last").textContent = last.slice(0, 500) || "(empty)";
    if (points.length) $("what").textContent = `${plotsLength ? "length in bytes" : "values"}, latest ${points.length}`;
    plot();
  });
}

let counted = 0;
let countedAt = performance.now();

setInterval(() => {
  const now = performance.now();
  const rate = ((count - counted) * 1000) / (now - countedAt);
  $("rate").textContent = rate.toLocaleString([], { maximumFractionDigits: rate < 10 ? 1 : 0 });
  [counted, countedAt] = [count, now];
}, 1000);

// --- The plot

function plot() {
  const style = getComputedStyle(document.body);
  const color = (index) => `oklch(${style.getPropertyValue("--series")} ${(250 + index * 137.5) % 360})`;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);

  const { ticks, low, high, label } = scale(points.flat());
  context.font = `12px ${style.fontFamily}`;
  const left = Math.max(...ticks.map((tick) => context.measureText(label(tick)).width)) + 10;
  const x = (index) => left + (index / (MAX_POINTS - 1)) * (width - left - 6);
  const y = (value) => height - 8 - ((value - low) / (high - low)) * (height - 16);

  context.strokeStyle = style.getPropertyValue("--line");
  context.fillStyle = style.getPropertyValue("--muted");
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const tick of ticks) {
    const at = Math.round(y(tick)) + 0.5; // on a pixel, so that the line is sharp
    context.beginPath();
    context.moveTo(left, at);
    context.lineTo(width, at);
    context.stroke();
    context.fillText(label(tick), left - 10, at);
  }

  // The latest datagram is at the right edge, wherever it starts.
  const offset = MAX_POINTS - points.length;
  const series = Math.max(0, ...points.map((values) => values.length));
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  for (let index = 0; index < series; index++) {
    context.strokeStyle = context.fillStyle = color(index);
    context.beginPath();
    points.forEach((values, at) => {
      if (index < values.length) context.lineTo(x(offset + at), y(values[index]));
    });
    context.stroke();
    const end = points.at(-1)[index];
    if (end === undefined) continue;
    context.beginPath();
    context.arc(x(MAX_POINTS - 1), y(end), 3.5, 0, 2 * Math.PI);
    context.fill();
  }
  showLegend(points.at(-1) ?? [], color);
}

function showLegend(values, color) {
  $("legend").replaceChildren(
    ...values.map((value, index) => {
      const node = document.createElement("span");
      node.textContent = value.toLocaleString([], { maximumSignificantDigits: 6 });
      node.style.setProperty("--color", color(index));
      return node;
    }),
  );
}

// About five round numbers that enclose all values.
function scale(values) {
  let low = values.reduce((a, b) => Math.min(a, b), Infinity);
  let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (low > high) [low, high] = [0, 1];
  if (high - low < 1e-12) [low, high] = [low - 1, high + 1]; // a level line, in the middle
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.floor(low / step);
  const ticks = Array.from({ length: Math.ceil(high / step) - first + 1 }, (_, i) => (first + i) * step);
  const digits = Math.min(20, Math.max(0, -Math.floor(Math.log10(step))));
  const label = (tick) => tick.toLocaleString([], { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return { ticks, low: ticks[0], high: ticks.at(-1), label };
}

new ResizeObserver(redraw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
connect();
