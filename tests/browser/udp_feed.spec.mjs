#!/usr/bin/env node
// The udp_feed example's page in a real browser.
//
//     node udp_feed.spec.mjs BINARY        node udp_feed.spec.mjs target/release/examples/udp_feed

import { createSocket } from 'node:dgram';
import { Report, equal, eventually, fits, launch, open, screenshot, start } from './common.mjs';

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

async function feed(number) {
  const { hostname, port } = new URL(server.urls.udp.href.replace('udp:', 'http:'));
  for (let i = 0; i < number; i += 1) {
    const value = (Math.sin(i / 8) * 10 + i / 20).toFixed(2);
    await new Promise((resolve, reject) =>
      udp.send(value, Number(port), hostname, (error) => (error ? reject(error) : resolve())),
    );
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

await report.check('server-starts', async () => {
  server = await start(binary, ['127.0.0.1:0', '--udp', '127.0.0.1:0'], ['ws', 'udp']);
});
await report.check('browser-starts', async () => {
  browser = await launch();
}, 60);
if (!server || !browser) report.exit();

const looks = {
  'desktop-light': { colorScheme: 'light' },
  'desktop-dark': { colorScheme: 'dark' },
  'phone-light': { colorScheme: 'light', viewport: { width: 390, height: 844 }, isMobile: true, deviceScaleFactor: 2 },
};
for (const [name, options] of Object.entries(looks)) {
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

await report.check('server-ends-in-order', async () => {
  await server.stop();
}, 15);

udp.close();
await browser.close();
report.exit();
