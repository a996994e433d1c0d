// The page of the feed: each binary message is one datagram.

const $ = (id) => document.getElementById(id);
const main = document.querySelector("main");
const canvas = $("plot");

const SPAN = 30_000; // ms that the plot goes back
const BIN = 25; // ms; datagrams that arrive within it share one position on the time axis
const FRAME = 50; // ms between two drawings while no datagram arrives
const MAX_SERIES = 8;
const MAX_VALUE = 1e12; // larger numbers (and Infinity) are not plotted as numbers
const FIRST_DELAY = 500; // ms before the first attempt to reconnect
const MAX_DELAY = 30_000;

const decoder = new TextDecoder();
let bins = []; // what is plotted: { time, series: [{ first, low, high, last }] }
let count = 0;
let last = null; // the text of the latest datagram
let latest = []; // its values
let plotsLength = false; // it was not made of numbers
let attempts = 0;

// --- The connection

function connect() {
  const url = new URL("/", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    attempts = 0;
    showState("connected", "connected");
  };
  socket.onmessage = ({ data }) => receive(data);
  socket.onclose = ({ code }) => {
    if (attempts === 0) {
      // 1001: going away, 1012: service restart
      const why = code === 1001 || code === 1012 ? "the server shut down" : "the connection broke";
      $("banner").textContent = `Disconnected: ${why}. Reconnecting…`;
      bins.push({ time: performance.now(), series: [] }); // interrupts the lines
    }
    showState("disconnected", "reconnecting…");
    // A random part of the delay keeps the pages from reconnecting all at once.
    const delay = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** attempts) * (0.5 + Math.random() / 2);
    attempts += 1;
    setTimeout(connect, delay);
  };
}

function showState(state, text) {
  main.dataset.state = state;
  $("status").textContent = text;
  $("banner").hidden = state !== "disconnected";
}

function receive(datagram) {
  last = decoder.decode(datagram);
  const numbers = last.split(/[\s,]+/).filter(Boolean).map(Number);
  plotsLength = numbers.length === 0 || !numbers.every((number) => Math.abs(number) < MAX_VALUE);
  latest = plotsLength ? [datagram.byteLength] : numbers.slice(0, MAX_SERIES);
  count += 1;
  addToBins(performance.now(), latest);
  redraw();
}

function addToBins(now, values) {
  let bin = bins.at(-1);
  if (!bin?.series.length || now - bin.time >= BIN) {
    bin = { time: now, series: [] };
    bins.push(bin);
  }
  values.forEach((value, index) => {
    const seen = (bin.series[index] ??= { first: value, low: value, high: value });
    seen.low = Math.min(seen.low, value);
    seen.high = Math.max(seen.high, value);
    seen.last = value;
  });
  // One bin before the visible ones stays: the line comes from there.
  while (bins.length > 1 && bins[1].time < now - SPAN) bins.shift();
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
  const style = getComputedStyle(document.body);
  const color = (index) => `oklch(${style.getPropertyValue("--series")} ${(250 + index * 137.5) % 360})`;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);

  // Only what is visible counts: an outlier stretches the axis until it has scrolled out.
  const visible = bins.filter((bin) => bin.time >= now - SPAN).flatMap((bin) => bin.series);
  const { ticks, low, high, label } = scale(visible.flatMap((seen) => [seen.low, seen.high]));
  context.font = `12px ${style.fontFamily}`;
  const left = Math.max(24, ...ticks.map((tick) => context.measureText(label(tick)).width + 10));
  const right = width - 6;
  const bottom = height - 24;
  const x = (time) => right - ((now - time) / SPAN) * (right - left);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - 8);

  context.strokeStyle = style.getPropertyValue("--line");
  context.fillStyle = style.getPropertyValue("--muted");
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const tick of count > 0 ? ticks : []) {
    line(context, left, y(tick), width, y(tick));
    context.fillText(label(tick), left - 10, y(tick));
  }
  for (let ago = SPAN; ago >= 0; ago -= 10_000) {
    const at = x(now - ago);
    line(context, at, 0, at, bottom + 5);
    context.textAlign = ago === 0 ? "right" : "center";
    context.fillText(ago === 0 ? "now" : `−${ago / 1000} s`, ago === 0 ? width : at, height - 8);
  }

  context.beginPath();
  context.rect(left, 0, width - left, height);
  context.clip();
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  const series = Math.max(0, ...bins.map((bin) => bin.series.length));
  for (let index = 0; index < series; index++) {
    context.strokeStyle = context.fillStyle = color(index);
    drawSeries(context, index, x, y);
  }

  const unit = plotsLength ? "length in bytes" : "values";
  const period = `${SPAN / 1000} seconds`;
  if (count > 0) $("what").textContent = visible.length ? `${unit}, last ${period}` : `no datagrams in the last ${period}`;
  canvas.setAttribute("aria-label", `${$("what").textContent}, on an axis from ${label(low)} to ${label(high)}`);
  showLegend(color);
}

// A thin line, on whole pixels so that it is sharp.
function line(context, ...ends) {
  const [x1, y1, x2, y2] = ends.map((end) => Math.round(end) + 0.5);
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

// A line through the values, and a dot at the latest.
function drawSeries(context, index, x, y) {
  let move = true;
  let end;
  context.beginPath();
  for (const { time, series } of bins) {
    if (!series.length) move = true; // the page was disconnected
    const seen = series[index];
    if (!seen) continue;
    if (move) context.moveTo(x(time), y(seen.first));
    move = false;
    for (const value of [seen.first, seen.low, seen.high, seen.last]) context.lineTo(x(time), y(value));
    end = [x(time), y(seen.last)];
  }
  context.stroke();
  if (!end) return;
  context.beginPath();
  context.arc(...end, 3.5, 0, 2 * Math.PI);
  context.fill();
}

function showLegend(color) {
  $("legend").replaceChildren(
    ...latest.map((value, index) => {
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
