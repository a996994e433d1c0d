// The dashboard: fetches the metrics and the list of connections once a second, and draws them.

import { clear, color, line } from "./plots.js";

const $ = (id) => document.getElementById(id);
const main = document.querySelector("main");

const INTERVAL = 1000; // ms between two fetches
const TIMEOUT = 5000; // ms after which a server that does not answer is gone
const SPAN = 120_000; // ms that the plots go back
const PREFIX = "threadbare_server_";

// --- The text of the metrics

/** The samples of a text in the format OpenMetrics, by name: for each its labels and its value. */
function parse(text) {
  if (!text.endsWith("# EOF\n")) throw new Error("the metrics are incomplete");
  const samples = new Map();
  for (const line of text.split("\n")) {
    const found = line.match(/^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/);
    if (!found) continue; // a comment
    const [, name, labels = "", value] = found;
    if (!samples.has(name)) samples.set(name, []);
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, of]) => [label, unescape(of)]);
    samples.get(name).push({ labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return samples;
}

/** The value of a label, in which `\\`, `"` and line feeds have a backslash before them. */
const unescape = (text) => text.replace(/\\(.)/g, (_, char) => (char === "n" ? "\n" : char));

/** What the page shows of one fetch. */
function read(text, time) {
  const samples = parse(text);
  const of = (name) => samples.get(PREFIX + name) ?? [];
  const value = (name) => of(name)[0]?.value ?? 0;
  const histogram = (name) =>
    of(`${name}_bucket`).map(({ labels, value }) => ({ bound: labels.le === "+Inf" ? Infinity : Number(labels.le), count: value }));
  const closes = of("connections_closed_total").map(({ labels, value }) => ({ code: Number(labels.code), count: value }));
  const ended = closes.reduce((sum, { count }) => sum + count, 0);
  return {
    time,
    closes,
    accepted: value("accepted_total"),
    sockets: value("connections"),
    established: value("connections_opened_total") - ended,
    received: value("messages_received_total"),
    sent: value("messages_sent_total"),
    receivedBytes: value("received_bytes_total"),
    sentBytes: value("sent_bytes_total"),
    queued: value("queued_bytes"),
    memory: value("memory_bytes"),
    iterations: histogram("iteration_seconds"),
    callbacks: histogram("callback_seconds"),
  };
}

// What a plot shows of a fetch and the one before, which is `null` where there is none to compare with: a number or `null`.
const latest = (name) => (now) => now[name];

/** The growth of a count in a second. */
const rate = (count) => (now, before) => before && ((now[count] - before[count]) * 1000) / (now.time - before.time);

/** The time that a fraction of all that was measured between the two did not exceed: the bound of its class. */
const quantile = (histogram, fraction) => (now, before) => {
  if (!before) return null;
  const counts = now[histogram].map(({ bound, count }, i) => ({ bound, count: count - (before[histogram][i]?.count ?? 0) }));
  const total = counts.at(-1)?.count ?? 0;
  if (total <= 0) return null; // nothing was measured
  const rank = Math.max(1, Math.ceil(total * fraction));
  const { bound } = counts.find(({ count }) => count >= rank);
  return bound === Infinity ? counts.at(-2).bound : bound;
};

// --- Numbers

const decimal = (value) => value.toLocaleString([], { maximumFractionDigits: value < 10 ? 1 : 0 });
const compact = (value) => (value < 1e5 ? decimal(value) : value.toLocaleString([], { notation: "compact", maximumFractionDigits: 1 }));

/** Writes a number with the largest unit that is not larger than it. */
const withUnit = (units) => (value) => {
  const [size, name] = units.find(([size]) => value >= size * 0.9995) ?? units.at(-1);
  return `${decimal(value / size)} ${name}`;
};
const bytes = withUnit([[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]]);
const seconds = withUnit([[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]);

function age(seconds) {
  const [days, hours, minutes] = [86_400, 3600, 60].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

// --- The plots

// `least` is the smallest upper end of the axis of values, `step` the smallest distance of its labels.
const PLOTS = [
  {
    id: "connections",
    title: "Connections",
    format: compact,
    least: 4,
    step: 1,
    series: { WebSocket: latest("established"), "with HTTP": latest("sockets") },
  },
  {
    id: "messages",
    title: "Messages a second",
    format: compact,
    least: 4,
    step: 1,
    series: { in: rate("received"), out: rate("sent") },
  },
  {
    id: "bytes",
    title: "Bytes a second",
    format: bytes,
    least: 100,
    step: 1,
    series: { in: rate("receivedBytes"), out: rate("sentBytes") },
  },
  {
    id: "iteration",
    title: "Iteration time",
    format: seconds,
    least: 1e-5,
    step: 1e-6,
    series: { p50: quantile("iterations", 0.5), p99: quantile("iterations", 0.99) },
  },
  {
    id: "callback",
    title: "Callback time",
    format: seconds,
    least: 1e-5,
    step: 1e-6,
    series: { p50: quantile("callbacks", 0.5), p99: quantile("callbacks", 0.99) },
  },
  { id: "queued", title: "Queued bytes", format: bytes, least: 100, step: 1, series: { waiting: latest("queued") } },
  { id: "memory", title: "Memory", format: bytes, least: 1000, step: 1, series: { taken: latest("memory") } },
];

for (const plot of PLOTS) {
  const figure = $("plot").content.cloneNode(true).firstElementChild;
  figure.id = plot.id;
  figure.querySelector("h2").textContent = plot.title;
  plot.canvas = figure.querySelector("canvas");
  plot.points = []; // { time, values }, a value for each series; `null` where there is none
  plot.legend = Object.keys(plot.series).map((name, index) => {
    const node = document.createElement("span");
    node.dataset.series = name;
    node.classList.toggle("dashed", index > 0); // told apart by more than the color
    return node;
  });
  figure.querySelector(".legend").append(...plot.legend);
  $("plots").insertBefore(figure, $("plots").lastElementChild);
}

function addPoints(now, before) {
  for (const plot of PLOTS) {
    plot.points.push({ time: now.time, values: Object.values(plot.series).map((value) => value(now, before)) });
  }
}

/** Interrupts the lines. */
function addGap() {
  for (const { points, series } of PLOTS) {
    points.push({ time: performance.now(), values: Object.keys(series).map(() => null) });
  }
}

function drawAll() {
  const now = performance.now();
  for (const plot of PLOTS) draw(plot, now);
}

function draw(plot, now) {
  const { canvas, points, format } = plot;
  // One point before the visible ones stays: the line comes from there.
  while (points.length > 1 && points[1].time < now - SPAN) points.shift();

  const style = getComputedStyle(document.body);
  const { context, width, height } = clear(canvas);
  context.font = `11px ${style.fontFamily}`;

  const { ticks, high } = scale(points.flatMap(({ values }) => values), plot);
  const left = Math.max(24, ...ticks.map((tick) => context.measureText(format(tick)).width + 8));
  const right = width - 5;
  const bottom = height - 20;
  const x = (time) => right - ((now - time) / SPAN) * (right - left);
  const y = (value) => bottom - (value / high) * (bottom - 6);

  context.strokeStyle = style.getPropertyValue("--line");
  context.fillStyle = style.getPropertyValue("--muted");
  context.textBaseline = "middle";
  for (const tick of ticks) {
    line(context, left, y(tick), width, y(tick));
    context.textAlign = "right";
    context.fillText(format(tick), left - 8, y(tick));
  }
  for (const ago of [SPAN, SPAN / 2, 0]) {
    line(context, x(now - ago), 0, x(now - ago), bottom + 4);
    context.textAlign = ago === SPAN ? "left" : ago === 0 ? "right" : "center";
    const at = ago === SPAN ? left : ago === 0 ? width : x(now - ago);
    context.fillText(ago === 0 ? "now" : `−${ago / 60_000} min`, at, height - 7);
  }

  context.beginPath();
  context.rect(left, 0, width - left, height);
  context.clip();
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  Object.keys(plot.series).forEach((name, index) => {
    context.strokeStyle = context.fillStyle = color(index);
    drawSeries(context, points, index, x, y);
  });
  showLatest(plot, format(high));
}

// A line through the values, and a dot at each that has no neighbor, and at the latest.
function drawSeries(context, points, index, x, y) {
  context.setLineDash(index > 0 ? [4, 3] : []);
  context.beginPath();
  const dots = [];
  points.forEach(({ time, values }, i) => {
    const value = values[index];
    if (value === null) return;
    const follows = (points[i - 1]?.values[index] ?? null) !== null;
    const goesOn = (points[i + 1]?.values[index] ?? null) !== null;
    if (follows) context.lineTo(x(time), y(value));
    else context.moveTo(x(time), y(value));
    if (i === points.length - 1) dots.push([x(time), y(value), 3]);
    else if (!follows && !goesOn) dots.push([x(time), y(value), 1.75]);
  });
  context.stroke();
  context.setLineDash([]);
  for (const dot of dots) {
    context.beginPath();
    context.arc(...dot, 0, 2 * Math.PI);
    context.fill();
  }
}

// The latest values: in the legend, and in words for those who do not see the plot.
function showLatest({ canvas, legend, points, title, format }, high) {
  const values = points.at(-1)?.values ?? legend.map(() => null);
  legend.forEach((node, index) => {
    const value = values[index] === null ? "–" : format(values[index]);
    node.textContent = `${node.dataset.series} ${value}`;
    node.style.setProperty("--color", color(index));
  });
  const said = legend.map((node, index) => (values[index] === null ? `${node.dataset.series} not measured` : node.textContent));
  canvas.setAttribute("aria-label", `${title} in the last ${SPAN / 60_000} minutes, now ${said.join(", ")}, on an axis from 0 to ${high}`);
}

// About four round numbers from 0 up to what encloses all values.
function scale(values, { least, step: smallest }) {
  const largest = values.reduce((a, b) => Math.max(a, b ?? 0), least);
  const rough = largest / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(smallest, power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.9999));
  const steps = Math.ceil((largest / step) * 0.9999);
  return { ticks: Array.from({ length: steps + 1 }, (_, i) => i * step), high: steps * step };
}

// --- The tables

const MEANINGS = {
  1000: "normal closure",
  1001: "going away",
  1002: "protocol error",
  1003: "unsupported data",
  1005: "no code",
  1006: "lost, no close frame",
  1007: "invalid data",
  1008: "policy, or slow reader",
  1009: "message too big",
  1010: "extension missing",
  1011: "internal error",
  1012: "service restart",
  1013: "try again later",
  1014: "bad gateway",
  1015: "TLS failed",
  3000: "registered codes",
  4000: "private codes",
};

/** Shows rows, each an array of texts behind a key. Rows that stay are kept, with what is selected in them. */
function showRows(table, wanted, numbers) {
  const body = table.tBodies[0];
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const rows = wanted.map(([key, ...texts]) => {
    const row = known.get(key) ?? document.createElement("tr");
    row.dataset.key = key;
    texts.forEach((text, index) => {
      const cell = row.cells[index] ?? row.insertCell();
      cell.classList.toggle("number", index >= numbers);
      if (cell.textContent !== text) cell.textContent = text;
    });
    return row;
  });
  if (rows.length !== body.rows.length || rows.some((row, i) => row !== body.rows[i])) body.replaceChildren(...rows);
  table.hidden = rows.length === 0;
}

function showCloses(closes) {
  const rows = closes
    .filter(({ count }) => count > 0)
    .map(({ code, count }) => [String(code), code < 3000 ? String(code) : `${code}+`, MEANINGS[code] ?? "", compact(count)]);
  showRows($("closes"), rows, 2);
  $("no-closes").hidden = rows.length > 0;
}

function showPeers(peers, established) {
  const rows = peers.map((peer) => [
    peer.id,
    peer.id,
    peer.address,
    age(peer.age_seconds) + (peer.open ? "" : ", closing"),
    bytes(peer.queued_bytes),
    compact(peer.messages_received),
    compact(peer.messages_sent),
  ]);
  showRows($("peers"), rows, 2);
  $("no-peers").hidden = rows.length > 0;
  const more = established > peers.length && peers.length > 0;
  $("peers-count").textContent = more ? `${peers.length} of ${established.toLocaleString()}` : String(peers.length);
}

// --- The fetches

let before = null; // what the last fetch brought; `null` if the next has none to be compared with
let busy = false;
let paused = false;

async function get(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

async function update() {
  if (busy || paused) return;
  busy = true;
  try {
    // The list may fail alone: the server makes only some at a time.
    const [text, peers] = await Promise.all([
      get("metrics").then((response) => response.text()),
      get("peers").then((response) => response.json()).catch(() => null),
    ]);
    if (!paused) show(read(text, performance.now()), peers);
  } catch {
    if (paused) return;
    if (main.dataset.state !== "disconnected") addGap();
    before = null;
    $("banner").textContent = "The server is gone, or does not answer. Trying again…";
    showState("disconnected", "no answer");
  } finally {
    busy = false;
    drawAll();
  }
}

function show(now, peers) {
  // The counts of another process that has taken the place of this one begin anew.
  if (before && now.accepted < before.accepted) before = null;
  addPoints(now, before);
  before = now;
  showCloses(now.closes);
  if (peers) showPeers(peers, now.established);
  showState("connected", "live");
}

function showState(state, text) {
  main.dataset.state = state;
  if ($("status").textContent !== text) $("status").textContent = text; // a screen reader reads changes only
  $("banner").hidden = state !== "disconnected";
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) {
    before = null;
    addGap();
    showState("paused", "paused");
  } else {
    update();
  }
});

const resized = new ResizeObserver(drawAll);
for (const { canvas } of PLOTS) resized.observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
setInterval(update, INTERVAL);
update();
