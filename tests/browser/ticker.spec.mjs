#!/usr/bin/env node
// The ticker example's page in a real browser.
//
//     node ticker.spec.mjs BINARY        node ticker.spec.mjs target/release/examples/ticker

import { LOOKS, Report, equal, eventually, fits, launch, opacity, open, screenshot, start, state } from './common.mjs';

const binary = process.argv[2];
if (!binary) {
  console.error('usage: node ticker.spec.mjs BINARY');
  process.exit(2);
}

const report = new Report('browser/ticker');
const SYMBOLS = ['ASH', 'ELM', 'FIR', 'OAK'];
const MAX_AGE = 3000; // ms that a price of the slow reader may be old; a queue would be older the longer it is read from

const isLive = (page) => eventually(() => state(page), 'connected', 'the state');
const isOn = (page) => page.locator('#slow').getAttribute('aria-checked');
/** What the table says of a reader; `null` where it says nothing yet. */
const reader = async (page, name) => {
  const texts = await page.locator(`#${name}-row td`).allTextContents();
  const [rate, read, skipped, told, age] = texts.map((text) => (/\d/.test(text) ? Number(text.replace(/[^\d]/g, '')) : null));
  return { rate, read, skipped, told, age };
};
const prices = (page) =>
  page.locator('#plots figure').evaluateAll((plots) => plots.map((plot) => [plot.dataset.symbol, plot.querySelector('.legend').textContent]));
/** The same in numbers: those of the live reader, and those of the slow one. */
const numbers = (page, index) =>
  page.locator('#plots figure').evaluateAll(
    (plots, index) => plots.map((plot) => Number(plot.querySelectorAll('.legend span')[index].textContent.split(' ')[1])),
    index,
  );

let server;
let browser;

await report.check('server-starts', async () => {
  server = await start(binary, ['127.0.0.1:0']);
});
await report.check('browser-starts', async () => {
  browser = await launch();
}, 60);
if (!server || !browser) report.exit();

/** The samples of the server's metrics for one topic. */
async function metrics(symbol) {
  const text = await (await fetch(`${server.page}metrics`)).text();
  const found = [...text.matchAll(/^threadbare_server_topic_(\w+)\{topic="(\w+)"\} (\d+)$/gm)];
  return Object.fromEntries(found.filter(([, , topic]) => topic === symbol).map(([, name, , value]) => [name, Number(value)]));
}

for (const [name, options] of Object.entries(LOOKS)) {
  await report.check(`a-slow-reader-has-the-newest-prices-and-is-told-of-the-others-${name}`, async () => {
    const page = await open(browser, server.page, options);
    await isLive(page);
    await eventually(async () => (await prices(page)).map(([symbol]) => symbol), SYMBOLS, 'the plots');
    await eventually(() => reader(page, 'live'), ({ rate }) => rate > 100, 'the live reader');
    equal((await reader(page, 'slow')).read, 0, 'the slow reader reads before it is turned on');

    await page.click('#slow');
    equal(await isOn(page), 'true', 'the switch is on');
    // It has run for so long that a queue would be several seconds old by then.
    const slow = await eventually(() => reader(page, 'slow'), ({ read }) => read >= 1500, 'the slow reader', 40);
    equal(slow.skipped > 2 * slow.read, true, `most prices are skipped: ${JSON.stringify(slow)}`);
    equal(slow.age <= MAX_AGE, true, `its prices are not old: ${JSON.stringify(slow)}`);
    equal(slow.rate < 300, true, `it is slow: ${JSON.stringify(slow)}`);
    await eventually(() => reader(page, 'slow'), ({ skipped, told }) => skipped > slow.skipped && skipped === told, 'all that is skipped is told', 20);
    const [live, late] = [await numbers(page, 0), await numbers(page, 1)];
    const near = live.every((price, i) => Math.abs(price - late[i]) / price < 0.2);
    equal(near, true, `the prices of the slow reader, ${late}, are near those of the live one, ${live}`);
    const label = await page.locator('#plots canvas').first().getAttribute('aria-label');
    equal(/^ASH in the last 20 seconds, now [\d.]+, [\d.]+ for the slow reader, on an axis from /.test(label), true, `the words: ${label}`);
    await screenshot(page, `ticker-${name}`);
    await fits(page);

    await page.click('#slow');
    equal(await isOn(page), 'false', 'the switch is off');
    const { read } = await reader(page, 'slow');
    await eventually(() => reader(page, 'slow'), ({ rate }) => rate === 0, 'the rate of the slow reader that is off');
    equal((await reader(page, 'slow')).read < read + 400, true, 'it has stopped');
    await eventually(() => reader(page, 'live'), ({ rate }) => rate > 100, 'the live reader goes on');
    equal(page.trouble, [], 'trouble');
    await page.context().close();
  }, 90);
}

await report.check('metrics-tell-what-each-topic-lost', async () => {
  const page = await open(browser, server.page);
  await isLive(page);
  await page.click('#slow');
  const before = await metrics('OAK');
  await eventually(() => metrics('OAK'), (now) => now.skipped_total > before.skipped_total, 'the count of the skipped');
  const now = await metrics('OAK');
  equal(now.subscribers >= 1, true, `subscribers: ${JSON.stringify(now)}`);
  equal(now.published_total > before.published_total && now.delivered_total > before.delivered_total, true, `they grow: ${JSON.stringify(now)}`);
  await page.context().close();
}, 40);

await report.check('switch-is-worked-by-keyboard-and-can-be-turned-on-again', async () => {
  const page = await open(browser, server.page);
  await isLive(page);
  await page.locator('#slow').focus();
  for (const wanted of ['true', 'false', 'true']) {
    const { read } = await reader(page, 'slow');
    await page.keyboard.press('Space');
    equal(await isOn(page), wanted, 'the switch');
    if (wanted === 'true') await eventually(() => reader(page, 'slow'), (now) => now.read > (read ?? 0), 'it reads');
  }
  equal(page.trouble, [], 'trouble');
  await page.context().close();
}, 40);

await report.check('no-more-slow-readers-than-there-are-threads', async () => {
  const page = await open(browser, server.page);
  await isLive(page);
  const closes = await page.evaluate(async () => {
    const sockets = Array.from({ length: 12 }, () => new WebSocket(new URL('/slow', location.href.replace('http', 'ws'))));
    const ends = sockets.map((socket) => new Promise((resolve) => {
      socket.onmessage = () => resolve('reads');
      socket.onclose = ({ code }) => resolve(code);
    }));
    return Promise.all(ends);
  });
  // Readers of the checks before may not have ended.
  equal([...new Set(closes)].sort(), [1013, 'reads'], `what became of twelve: ${closes}`);
  equal(closes.filter((end) => end === 'reads').length <= 8, true, `eight at most: ${closes}`);
  await page.context().close();
}, 40);

await report.check('page-fits-windows-of-any-width', async () => {
  const page = await open(browser, server.page);
  await isLive(page);
  await eventually(async () => (await prices(page)).length, SYMBOLS.length, 'the plots');
  for (const width of [320, 390, 600, 800, 1024, 1280, 1920, 2560]) {
    await page.setViewportSize({ width, height: 800 });
    await fits(page);
  }
  await page.context().close();
}, 40);

await report.check('end-of-the-server-is-shown-and-a-new-one-is-found', async () => {
  const page = await open(browser, server.page);
  await isLive(page);
  await page.click('#slow');
  await eventually(() => reader(page, 'slow'), ({ read }) => read > 0, 'the slow reader');
  await server.stop();
  await eventually(() => state(page), 'disconnected', 'the state without a server');
  equal(/^Disconnected/.test(await page.locator('#banner').textContent()), true, 'the banner says so');
  await eventually(() => isOn(page), 'false', 'the switch without a server');
  await eventually(() => opacity(page, '#plots'), (value) => value < 0.6, 'the opacity');

  server = await start(binary, [server.host]);
  await eventually(() => state(page), 'connected', 'the state with a new server', 40);
  equal(await page.locator('#banner').isVisible(), false, 'the banner is visible at last');
  const { read } = await reader(page, 'live');
  await eventually(() => reader(page, 'live'), (now) => now.read > read, 'the live reader goes on');
  equal(page.trouble.filter((text) => !/Failed to load resource: net::ERR_/.test(text)), [], 'trouble');
  await page.context().close();
}, 60);

await report.check('server-ends-in-order', async () => {
  await server.stop();
}, 15);

await browser.close();
report.exit();
