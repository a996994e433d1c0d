// The page of the ticker: the prices as the live reader has them, and as a slow one has them.

import { stayConnected } from "./connection.js";
import { Plot, color } from "./plots.js";

const $ = (id) => document.getElementById(id);

const SPAN = 20_000; // ms that the plots go back
const FRAME = 100; // ms between two drawings

const plots = new Map(); // by symbol, in the order of their names

// --- The readers

/** What came through one connection. `index` is its series in the plots. */
class Reader {
  read = 0;
  skipped = 0; // by the numbers of the prices
  told = 0; // by what the server says
  time = 0; // of the newest price, by the server's clock, in ms
  prices = new Map(); // the latest of each symbol

  constructor(path, index) {
    this.url = new URL(path, location.href.replace("http", "ws"));
    this.index = index;
    this.row = $(`${index === 0 ? "live" : "slow"}-row`);
    this.counted = { read: 0, at: performance.now() };
  }

  open() {
    this.prices.clear(); // what happens while nobody reads is not skipped
    this.socket = new WebSocket(this.url);
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
    return this.socket;
  }

  receive({ symbol, number, price, time, skipped }) {
    if (skipped !== undefined) {
      this.told += skipped;
      return;
    }
    const before = this.prices.get(symbol);
    if (before) this.skipped += number - before.number - 1;
    this.read += 1;
    this.time = time;
    this.prices.set(symbol, { number, price, time });
    const values = [];
    values[this.index] = price;
    plotOf(symbol).drawing.add(performance.now(), values);
  }

  /** The rate since this was called before. */
  rate() {
    const now = performance.now();
    const rate = ((this.read - this.counted.read) * 1000) / (now - this.counted.at);
    this.counted = { read: this.read, at: now };
    return rate;
  }
}

const live = new Reader("/feed", 0);
const slow = new Reader("/slow", 1);

function showSwitch(isOn) {
  $("slow").setAttribute("aria-checked", String(isOn));
  slow.row.dataset.on = String(isOn);
}

$("slow").addEventListener("click", () => {
  if ($("slow").getAttribute("aria-checked") === "true") {
    slow.socket.close(1000);
    return showSwitch(false);
  }
  showSwitch(true);
  const socket = slow.open();
  socket.onclose = ({ code, reason }) => {
    if (slow.socket !== socket) return; // it was turned on again meanwhile
    showSwitch(false);
    if (code !== 1000) $("status").textContent = `the slow reader has ended: ${reason || code}`;
  };
});

// --- The document

function plotOf(symbol) {
  let plot = plots.get(symbol);
  if (plot) return plot;
  const figure = $("plot").content.cloneNode(true).firstElementChild;
  figure.dataset.symbol = symbol;
  figure.querySelector("h2").textContent = symbol;
  const canvas = figure.querySelector("canvas");
  plot = { figure, canvas, legend: figure.querySelectorAll(".legend span"), drawing: new Plot(canvas, { span: SPAN, bin: 50 }) };
  plots.set(symbol, plot);
  const after = [...$("plots").children].find((other) => other.dataset.symbol > symbol);
  $("plots").insertBefore(figure, after ?? null);
  return plot;
}

const whole = (number) => number.toLocaleString([], { maximumFractionDigits: 0 });

function draw() {
  const now = performance.now();
  for (const [symbol, { drawing, canvas, legend }] of plots) {
    const { low, high } = drawing.draw(now, { hasValues: true, every: 10_000 });
    const prices = [live, slow].map((reader) => reader.prices.get(symbol)?.price.toFixed(2));
    const [first, second] = prices;
    legend.forEach((node, index) => {
      node.textContent = `${index === 0 ? "live" : "slow"} ${prices[index]}`;
      node.hidden = prices[index] === undefined;
      node.style.setProperty("--color", color(index));
    });
    const words = `${symbol} in the last ${SPAN / 1000} seconds, now ${first ?? "unknown"}`;
    canvas.setAttribute("aria-label", `${words}${second ? `, ${second} for the slow reader` : ""}, on an axis from ${low} to ${high}`);
  }
}

function count() {
  for (const reader of [live, slow]) {
    const age = reader.read === 0 ? "–" : `${whole(Math.max(0, live.time - reader.time))} ms`;
    const texts = [whole(reader.rate()), whole(reader.read), whole(reader.skipped), whole(reader.told), age];
    texts.forEach((text, index) => (reader.row.cells[index + 1].textContent = text));
  }
}

function interrupt() {
  for (const { drawing } of plots.values()) drawing.interrupt(performance.now());
}

showSwitch(false);
stayConnected(() => live.open(), interrupt);
setInterval(draw, FRAME);
setInterval(count, 1000);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
