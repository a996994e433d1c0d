#!/usr/bin/env node
// The udp_feed example's page in a real browser.
//
//     node udp_feed.spec.mjs BINARY        node udp_feed.spec.mjs target/release/examples/udp_feed

import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { LOOKS, Report, equal, eventually, fits, launch, opacity, open, relay, screenshot, start, state } from './common.mjs';

const binary = process.argv[2];
if (!binary) {
  console.error('usage: node udp_feed.spec.mjs BINARY');
  process.exit(2);
}

const report = new Report('browser/udp_feed');
const count = async (page) => Number((await page.locator('#count').textContent())?.replace(/[^0-9]/g, '') || 0);

let server;
let browser;
const udp = createSocket('udp4');

const udpAddress = (of = server) => new URL(of.urls.udp.href.replace('udp:', 'http:'));

async function sendDatagram(text, to = server) {
  const { hostname, port } = udpAddress(to);
  await new Promise((resolve, reject) =>
    udp.send(text, Number(port), hostname, (error) => (error ? reject(error) : resolve())),
  );
}

async function feed(number) {
  for (let i = 0; i < number; i += 1) {
    await sendDatagram((Math.sin(i / 8) * 10 + i / 20).toFixed(2));
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Records the text of the latest drawing: the page draws the labels of the axes onto a canvas. */
async function recordLabels(page) {
  await page.addInitScript(() => {
    const { getContext } = HTMLCanvasElement.prototype;
    const { fillText } = CanvasRenderingContext2D.prototype;
    window.labels = [];
    HTMLCanvasElement.prototype.getContext = function (...args) {
      window.labels = [];
      return getContext.apply(this, args);
    };
    CanvasRenderingContext2D.prototype.fillText = function (text, x, ...rest) {
      window.labels.push({ text, x });
      return fillText.call(this, text, x, ...rest);
    };
  });
}

const TIMES = ['−30 s', '−20 s', '−10 s', 'now'];
const labels = (page) => page.evaluate(() => window.labels);
const largestValue = async (page) => {
  const values = (await labels(page)).filter(({ text }) => !TIMES.includes(text));
  return Math.max(...values.map(({ text }) => Number(text.replaceAll(',', ''))));
};

await report.check('server-starts', async () => {
  server = await start(binary, ['127.0.0.1:0', '--udp', '127.0.0.1:0'], ['ws', 'udp']);
});
await report.check('browser-starts', async () => {
  browser = await launch();
}, 60);
if (!server || !browser) report.exit();

for (const [name, options] of Object.entries(LOOKS)) {
  await report.check(`datagrams-are-counted-and-drawn-${name}`, async () => {
    const page = await open(browser, server.page, options);
    // The page has no datagram to count before it is connected: send until the first one shows.
    await eventually(
      async () => {
        await feed(1);
        return count(page);
      },
      (n) => n > 0,
      'the count after the first datagram',
    );
    await page.waitForTimeout(300);
    const before = await count(page);
    await feed(200);
    await eventually(() => count(page), (n) => n >= before + 200, `the count after 200 more than ${before}`);
    equal(await count(page), before + 200, 'the count');
    const box = await page.locator('#plot').boundingBox();
    equal(Boolean(box && box.width > 100 && box.height > 50), true, 'the plot has a size');
    await screenshot(page, `udp_feed-${name}`);
    await fits(page);
    equal(page.trouble, [], 'trouble');
    await page.context().close();
  }, 40);
}

/** A server without a datagram. */
const startEmpty = () => start(binary, ['127.0.0.1:0', '--udp', '127.0.0.1:0'], ['ws', 'udp']);

await report.check('empty-page-shows-the-command-for-the-first-datagram', async () => {
  const empty = await startEmpty();
  const page = await open(browser, empty.page, { permissions: ['clipboard-read', 'clipboard-write'] });
  await eventually(() => state(page), 'connected', 'the state');
  await screenshot(page, 'udp_feed-empty');
  const { hostname, port } = udpAddress(empty);
  const command = await page.locator('#command').textContent();
  equal(command, `bash -c 'echo 42 >/dev/udp/${hostname}/${port}'`, 'the command');
  await page.click('#copy');
  equal(await page.evaluate(() => navigator.clipboard.readText()), command, 'the clipboard');
  equal(await page.locator('#copy').textContent(), 'Copied', 'the button');
  await eventually(
    async () => {
      execFileSync('bash', ['-c', command]);
      return count(page);
    },
    (n) => n > 0,
    'the count after the command',
  );
  await eventually(() => page.locator('#empty').isVisible(), false, 'the command is visible');
  equal(await page.locator('#last').textContent(), '42\n', 'the latest datagram');
  equal(page.trouble, [], 'trouble');
  await page.context().close();
  await empty.stop();
}, 40);

await report.check('empty-page-fits-a-phone', async () => {
  const server = await startEmpty();
  const page = await open(browser, server.page, { ...LOOKS['phone-light'], colorScheme: 'dark' });
  await eventually(() => state(page), 'connected', 'the state');
  await screenshot(page, 'udp_feed-empty-phone-dark');
  await fits(page);
  const plot = await page.locator('#plot').boundingBox();
  const empty = await page.locator('#empty').boundingBox();
  const inside = empty.x >= plot.x && empty.x + empty.width <= plot.x + plot.width;
  equal(inside, true, 'the command is within the plot');
  await page.context().close();
  await server.stop();
}, 40);

await report.check('plot-has-a-time-axis-and-its-value-axis-recovers-from-an-outlier', async () => {
  const page = await open(browser, server.page, {
    prepare: async (page) => {
      await page.clock.install();
      await recordLabels(page);
    },
  });
  const sendUntil = (text, wanted, what) =>
    eventually(
      async () => {
        await sendDatagram(text);
        return largestValue(page);
      },
      wanted,
      what,
    );
  await sendUntil('3', (value) => value > 0 && value <= 10, 'the largest value on the axis at first');
  const times = (await labels(page)).filter(({ text }) => TIMES.includes(text));
  equal(times.map(({ text }) => text), TIMES, 'the labels of the time axis');
  equal(times.every(({ x }, i) => i === 0 || x > times[i - 1].x), true, 'the times go from left to right');
  await sendUntil('1000000', (value) => value >= 1e6, 'the largest value with the outlier');
  await sendUntil('3', (value) => value >= 1e6, 'the largest value while the outlier is visible');
  await page.clock.fastForward(31_000);
  await sendUntil('3', (value) => value > 0 && value <= 10, 'the largest value after the outlier has scrolled out');
  equal(page.trouble, [], 'trouble');
  await page.context().close();
}, 40);

await report.check('a-value-moves-left-along-the-time-axis', async () => {
  const server = await startEmpty();
  const page = await open(browser, server.page, {
    prepare: async (page) => {
      await page.clock.install();
      await recordLabels(page);
      await page.addInitScript(() => {
        const { arc } = CanvasRenderingContext2D.prototype;
        CanvasRenderingContext2D.prototype.arc = function (x, ...rest) {
          window.dot = x;
          return arc.call(this, x, ...rest);
        };
      });
    },
  });
  await eventually(() => state(page), 'connected', 'the state');
  await sendDatagram('5', server);
  await eventually(() => count(page), 1, 'the count');
  const at = Object.fromEntries((await labels(page)).map(({ text, x }) => [text, x]));
  const second = (at['−10 s'] - at['−20 s']) / 10;
  const near = (label) => (x) => Math.abs(x - at[label]) < 3 * second;
  await page.clock.fastForward(10_000);
  await eventually(() => page.evaluate(() => window.dot), near('−10 s'), 'the dot after 10 s', 2);
  await page.clock.fastForward(10_000);
  await eventually(() => page.evaluate(() => window.dot), near('−20 s'), 'the dot after 20 s', 2);
  await page.clock.fastForward(11_000);
  await eventually(() => page.locator('#what').textContent(), 'no datagrams in the last 30 seconds', 'the caption');
  equal(page.trouble, [], 'trouble');
  await page.context().close();
  await server.stop();
}, 40);

await report.check('command-for-a-socket-on-any-address-names-the-host-of-the-page', async () => {
  const any = await start(binary, ['127.0.0.1:0', '--udp', '0.0.0.0:0'], ['ws', 'udp']);
  const page = await open(browser, any.page);
  await eventually(() => state(page), 'connected', 'the state');
  const { port } = new URL(any.urls.udp.href.replace('udp:', 'http:'));
  const command = await page.locator('#command').textContent();
  equal(command, `bash -c 'echo 42 >/dev/udp/127.0.0.1/${port}'`, 'the command');
  execFileSync('bash', ['-c', command]);
  await eventually(() => count(page), 1, 'the count after the command');
  await page.context().close();
  await any.stop();
}, 40);

await report.check('page-that-comes-late-or-back-has-the-last-datagram-and-is-told-of-the-others', async () => {
  const empty = await startEmpty();
  const line = await relay(empty);
  const page = await open(browser, line.page);
  await eventually(() => state(page), 'connected', 'the state');
  await sendDatagram('1', empty);
  await sendDatagram('2', empty);
  await eventually(() => count(page), 2, 'the count');

  const late = await open(browser, empty.page);
  await eventually(() => count(late), 1, 'the count of a page that came late');
  equal(await late.locator('#last').textContent(), '2', 'the last datagram of a page that came late');
  equal(await late.locator('#missed').textContent(), '', 'what a page that came late has missed');
  await late.context().close();

  line.cut();
  await eventually(() => state(page), 'disconnected', 'the state without a connection');
  for (const text of ['3', '4', '5']) await sendDatagram(text, empty);
  line.mend();
  await eventually(() => state(page), 'connected', 'the state of a page that came back', 40);
  await eventually(() => page.locator('#last').textContent(), '5', 'the last datagram of a page that came back');
  equal(await page.locator('#missed').textContent(), '2 were missed', 'what a page that came back has missed');
  equal(await count(page), 3, 'the count of a page that came back');

  line.cut();
  await eventually(() => state(page), 'disconnected', 'the state without a connection');
  line.mend();
  await eventually(() => state(page), 'connected', 'the state of a page that came back', 40);
  await sendDatagram('6', empty);
  await eventually(() => page.locator('#last').textContent(), '6', 'the last datagram');
  equal(await count(page), 4, 'nothing comes twice');
  equal(await page.locator('#missed').textContent(), '2 were missed', 'nothing more is missed');
  equal(page.trouble.filter((text) => !/ERR_/.test(text)), [], 'trouble');
  await page.context().close();
  line.close();
  await empty.stop();
}, 90);

await report.check('disconnected-page-is-dimmed-and-says-so', async () => {
  const page = await open(browser, server.page);
  await eventually(() => state(page), 'connected', 'the state');
  await eventually(async () => (await feed(1), count(page)), (n) => n > 0, 'the count');
  const shown = ['dl', '#plot'];
  for (const selector of shown) equal(await opacity(page, selector), 1, `the opacity of ${selector} at first`);
  equal(await page.locator('#banner').isVisible(), false, 'the banner is visible at first');
  const before = await page.locator('#plot').boundingBox();

  await server.stop();
  await eventually(() => state(page), 'disconnected', 'the state without a server');
  equal(await page.locator('#banner').isVisible(), true, 'the banner is visible');
  equal(/^Disconnected/.test(await page.locator('#banner').textContent()), true, 'the banner says so');
  for (const selector of shown) {
    await eventually(() => opacity(page, selector), (value) => value < 0.6, `the opacity of ${selector}`);
  }
  equal(await page.locator('#plot').boundingBox(), before, 'the place of the plot');
  await screenshot(page, 'udp_feed-disconnected');

  server = await start(binary, [server.host, '--udp', udpAddress().host], ['ws', 'udp']);
  await eventually(() => state(page), 'connected', 'the state with a new server', 40);
  equal(await page.locator('#banner').isVisible(), false, 'the banner is visible at last');
  for (const selector of shown) await eventually(() => opacity(page, selector), 1, `the opacity of ${selector}`);
  const counted = await count(page);
  await eventually(async () => (await feed(1), count(page)), (n) => n > counted, 'the count goes on');
  equal(page.trouble, [], 'trouble');
  await page.context().close();
}, 60);

await report.check('server-ends-in-order', async () => {
  await server.stop();
}, 15);

udp.close();
await browser.close();
report.exit();
