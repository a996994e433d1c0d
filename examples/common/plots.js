// What the pages with plots have in common: a plot of values over time, and what other plots are made of.

/** Lines on a canvas, one for each series, from `span` ms ago to now. Values within `bin` ms share one position on the time axis. */
export class Plot {
  #bins = []; // { time, series: [{ first, low, high, last }] }; without series where the lines are interrupted
  #canvas;
  #span;
  #bin;

  constructor(canvas, { span, bin }) {
    this.#canvas = canvas;
    this.#span = span;
    this.#bin = bin;
  }

  /** Adds a value to each series; `undefined` where there is none. */
  add(now, values) {
    let bin = this.#bins.at(-1);
    if (!bin?.series.length || now - bin.time >= this.#bin) {
      bin = { time: now, series: [] };
      this.#bins.push(bin);
    }
    values.forEach((value, index) => {
      if (value === undefined) return;
      const seen = (bin.series[index] ??= { first: value, low: value, high: value });
      seen.low = Math.min(seen.low, value);
      seen.high = Math.max(seen.high, value);
      seen.last = value;
    });
    // One bin before the visible ones stays: the line comes from there.
    while (this.#bins.length > 1 && this.#bins[1].time < now - this.#span) this.#bins.shift();
  }

  /** Interrupts the lines. */
  interrupt(now) {
    this.#bins.push({ time: now, series: [] });
  }

  /** Draws it. The axis of values has labels if there ever was a value, and the axis of times one every `every` ms. */
  draw(now, { hasValues, every }) {
    const style = getComputedStyle(document.body);
    const { context, width, height } = clear(this.#canvas);

    // Only what is visible counts: an outlier stretches the axis until it has scrolled out.
    const visible = this.#bins.filter((bin) => bin.time >= now - this.#span).flatMap((bin) => bin.series.filter(Boolean));
    const { ticks, low, high, label } = scale(visible.flatMap((seen) => [seen.low, seen.high]));
    context.font = `12px ${style.fontFamily}`;
    const left = Math.max(24, ...ticks.map((tick) => context.measureText(label(tick)).width + 10));
    const right = width - 6;
    const bottom = height - 24;
    const x = (time) => right - ((now - time) / this.#span) * (right - left);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - 8);

    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--muted");
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const tick of hasValues ? ticks : []) {
      line(context, left, y(tick), width, y(tick));
      context.fillText(label(tick), left - 10, y(tick));
    }
    for (let ago = this.#span; ago >= 0; ago -= every) {
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
    const series = Math.max(0, ...this.#bins.map((bin) => bin.series.length));
    for (let index = 0; index < series; index++) {
      context.strokeStyle = context.fillStyle = color(index);
      this.#drawSeries(context, index, x, y);
    }
    return { isEmpty: visible.length === 0, low: label(low), high: label(high) };
  }

  // A line through the values, and a dot at the latest.
  #drawSeries(context, index, x, y) {
    let move = true;
    let end;
    context.beginPath();
    for (const { time, series } of this.#bins) {
      if (!series.length) move = true;
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
}

/** The empty picture of a canvas, as sharp as the screen, and its size in the units of the page. */
export function clear(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  return { context, width, height };
}

/** The color of a series. */
export function color(index) {
  return `oklch(${getComputedStyle(document.body).getPropertyValue("--series")} ${(250 + index * 137.5) % 360})`;
}

/** Draws a thin line, on whole pixels so that it is sharp. */
export function line(context, ...ends) {
  const [x1, y1, x2, y2] = ends.map((end) => Math.round(end) + 0.5);
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
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
