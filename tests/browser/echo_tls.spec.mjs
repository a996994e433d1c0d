#!/usr/bin/env node
// The echo example over TLS in a real browser: messages of all sizes, several at once, and how connections end.
//
//     node echo_tls.spec.mjs BINARY DIRECTORY        node echo_tls.spec.mjs target/release/examples/echo .cache/interop/tls
//
// DIRECTORY has what .ci/certificates makes.

import { Report, certificate, equal, launch, open, start } from './common.mjs';

const [binary, tls] = process.argv.slice(2);
if (!tls) {
  console.error('usage: node echo_tls.spec.mjs BINARY DIRECTORY');
  process.exit(2);
}

const SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 16 << 20];

const report = new Report('browser/echo-tls');
let server;
let browser;
let page;

await report.check('server-starts', async () => {
  server = await start(binary, ['127.0.0.1:0', '--max-message', String(16 << 20), ...certificate(tls)], ['wss']);
});
await report.check('browser-starts', async () => {
  browser = await launch(tls);
  // The server answers 426 to what is no handshake, and Chromium shows that as a page.
  page = await open(browser, server.page);
  equal(await page.evaluate(() => isSecureContext && location.protocol), 'https:', 'the protocol of the page');
}, 60);
if (!page) report.exit();

/** Runs in the page: sends `count` messages of a kind and size, and compares the echoes. Returns what is wrong. */
const echo = ({ url, kind, size, count, code }) =>
  new Promise((resolve) => {
    const make = (number) => {
      if (kind === 'text') {
        const head = String(number).slice(0, size);
        const rest = size - head.length; // in bytes, of which an é has two
        return head + 'é'.repeat(rest >> 1) + 'z'.repeat(rest & 1);
      }
      return Uint8Array.from({ length: size }, (_, index) => (index * 31 + (index >> 8) + number) % 251);
    };
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    let received = 0;
    let wrong = null;
    socket.onopen = () => {
      for (let number = 0; number < count; number += 1) socket.send(make(number));
    };
    socket.onmessage = ({ data }) => {
      const wanted = make(received);
      const got = kind === 'text' ? data : new Uint8Array(data);
      if (got.length !== wanted.length) wrong ??= `echo ${received} has the length ${got.length}`;
      else if (kind === 'text' ? got !== wanted : got.some((byte, at) => byte !== wanted[at])) wrong ??= `echo ${received} differs`;
      received += 1;
      if (received === count) socket.close(code, 'grund: ü');
    };
    socket.onclose = ({ code: answered, wasClean }) => {
      if (received !== count) wrong ??= `${received} echoes of ${count}`;
      if (answered !== code || !wasClean) wrong ??= `closed with ${answered}, clean: ${wasClean}`;
      resolve(wrong);
    };
  });

for (const kind of ['text', 'binary']) {
  for (const size of SIZES) {
    await report.check(`echo-${kind}-${size}`, async () => {
      equal(await page.evaluate(echo, { url: server.url, kind, size, count: 1, code: 1000 }), null, 'the echo');
    }, 60);
  }
  await report.check(`3000-pipelined-${kind}`, async () => {
    equal(await page.evaluate(echo, { url: server.url, kind, size: 40, count: 3000, code: 4999 }), null, 'the echoes');
  }, 60);
}

await report.check('an-untrusted-certificate-is-refused', async () => {
  const other = await launch();
  const stranger = await other.newPage();
  const opened = await stranger.evaluate(
    (url) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url);
        socket.onopen = () => resolve(true);
        socket.onerror = () => resolve(false);
      }),
    server.url,
  );
  equal(opened, false, 'that the connection opened');
  await other.close();
}, 60);

await report.check('no-errors-on-the-page', async () => {
  // The status of the page itself.
  equal(page.trouble.filter((trouble) => !/status of 426/.test(trouble)), [], 'trouble');
});

await report.check('server-ends-in-order', async () => {
  await server.stop();
}, 15);

await browser.close();
report.exit();
