#!/usr/bin/env node
// The upload example's page in a real browser.
//
//     node upload.spec.mjs BINARY [DIRECTORY]        node upload.spec.mjs target/release/examples/upload
//
// With a directory that .ci/certificates made, the same over TLS.

import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Report, certificate, equal, eventually, fits, launch, open, relay, screenshot, start, state } from './common.mjs';

const [binary, tls] = process.argv.slice(2);
if (!binary) {
  console.error('usage: node upload.spec.mjs BINARY [DIRECTORY]');
  process.exit(2);
}

const SIZE = 20_000_003; // no multiple of anything
const HALF = 8 << 20; // what is sent before a check interrupts an upload

const report = new Report(tls ? 'browser/upload-tls' : 'browser/upload');
const directory = mkdtempSync(join(tmpdir(), 'upload-'));

let server;
let browser;

const serve = (host, ...flags) =>
  start(binary, [host, '--dir', directory, ...flags, ...certificate(tls)], tls ? ['wss'] : ['ws']);

/** The content of a file: a part that is shifted, swapped or repeated is noticed. */
function content(size) {
  const words = new Uint32Array(Math.ceil(size / 4));
  for (let i = 0; i < words.length; i += 1) words[i] = Math.imul(i + 1, 2654435761) ^ (i >>> 3);
  return new Uint8Array(words.buffer, 0, size);
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const expected = sha256(content(SIZE));

/** Chooses a file that the page itself makes, as a person would choose one of the disk. */
const choose = (page, name, size = SIZE) =>
  page.evaluate(
    ([source, name, size]) => {
      const content = new Function(`return ${source}`)();
      const transfer = new DataTransfer();
      transfer.items.add(new File([content(size)], name, { lastModified: 1_700_000_000_000 }));
      const input = document.getElementById('file');
      input.files = transfer.files;
      input.dispatchEvent(new Event('change'));
    },
    [content.toString(), name, size],
  );

/** The page's first connection sends so much, and then nothing: what happens next, a check decides. Counts what each sends. */
const stallAfter = (limit) => (page) =>
  page.addInitScript((limit) => {
    const { send } = WebSocket.prototype;
    window.sent = [];
    WebSocket.prototype.send = function (data) {
      if (this.number === undefined) this.number = window.sent.push(0) - 1;
      const size = data instanceof Blob ? data.size : 0;
      if (size > 0 && this.number === 0 && window.sent[0] + size > limit) return;
      window.sent[this.number] += size;
      send.call(this, data);
    };
  }, limit);

const text = (page, id) => page.locator(`#${id}`).textContent();
const progress = (page) => page.locator('#progress').evaluate((node) => node.value);
const files = () => readdirSync(directory).sort();
const stalled = (page) => eventually(() => progress(page), HALF / SIZE, 'the progress when the first half is there');

/** The page says that the file is complete; the checksum is right, and so is what is on the disk. */
async function isComplete(page, hash = expected) {
  await eventually(() => state(page), 'done', 'the state', 30);
  equal(await text(page, 'sha256'), hash, 'the checksum on the page');
  equal(await progress(page), 1, 'the progress');
  const id = (await text(page, 'command')).match(/\/files\/([0-9a-f]{32}) /)[1];
  equal(files().filter((name) => name.startsWith(id)), [id, `${id}.json`], 'the files on the disk');
  equal(sha256(readFileSync(join(directory, id))), hash, 'the checksum of the file on the disk');
  equal(await page.evaluate(() => localStorage.length), 0, 'what the browser remembers');
  return JSON.parse(readFileSync(join(directory, `${id}.json`), 'utf8'));
}

async function end(page) {
  await fits(page);
  equal(page.trouble, [], 'trouble');
  await page.context().close();
}

await report.check('server-starts', async () => {
  server = await serve('127.0.0.1:0');
});
await report.check('browser-starts', async () => {
  browser = await launch(tls);
}, 60);
if (!server || !browser) report.exit();

await report.check('file-arrives-with-its-checksum', async () => {
  const page = await open(browser, server.page);
  await choose(page, 'film.mp4');
  const known = await isComplete(page);
  equal(known, { name: 'film.mp4', sha256: expected, size: SIZE }, 'what the server knows of it');
  await screenshot(page, 'upload-complete');
  await end(page);
}, 60);

await report.check('empty-file-arrives', async () => {
  const page = await open(browser, server.page);
  await choose(page, 'empty', 0);
  await isComplete(page, sha256(''));
  await end(page);
}, 40);

await report.check('names-stay-in-the-directory', async () => {
  const page = await open(browser, server.page);
  for (const name of ['../../escaped', '/etc/escaped', '..', 'a\0b\\c', '<img src=x onerror=alert(1)>']) {
    const before = files().length;
    await choose(page, name, 1000);
    const known = await isComplete(page, sha256(content(1000)));
    equal(files().length, before + 2, 'the number of files');
    equal(await text(page, 'name'), known.name, 'the name on the page');
  }
  equal(files().every((name) => /^[0-9a-f]{32}(\.json)?$/.test(name)), true, 'every name is the server\'s');
  await end(page);
}, 60);

await report.check('pause-and-reload-and-the-same-file-goes-on', async () => {
  const page = await open(browser, server.page, { prepare: stallAfter(HALF) });
  await choose(page, 'paused.bin');
  await stalled(page);
  equal(await page.locator('#file').isDisabled(), true, 'no other file can be chosen meanwhile');
  await page.click('#pause');
  equal(await state(page), 'paused', 'the state');
  await screenshot(page, 'upload-paused');
  await page.reload();
  equal(/^Not complete: paused\.bin\./.test(await text(page, 'hint')), true, 'the page says what is not complete');
  await page.evaluate(() => (window.sent = [0])); // the connection that comes is not the first
  await choose(page, 'paused.bin');
  await isComplete(page);
  equal(await page.evaluate(() => window.sent), [0, SIZE - HALF], 'what was sent after the reload');
  await end(page);
}, 60);

await report.check('pause-and-go-on-in-the-same-page', async () => {
  const page = await open(browser, server.page, { prepare: stallAfter(HALF) });
  await choose(page, 'again.bin');
  await stalled(page);
  await page.click('#pause');
  await page.click('#pause');
  await isComplete(page);
  equal(await page.evaluate(() => window.sent), [HALF, SIZE - HALF], 'what the connections have sent');
  await end(page);
}, 60);

await report.check('another-file-begins-anew', async () => {
  const page = await open(browser, server.page, { prepare: stallAfter(HALF) });
  await choose(page, 'first.bin');
  await stalled(page);
  await page.click('#pause');
  await choose(page, 'second.bin', SIZE - 1);
  await eventually(() => state(page), 'done', 'the state', 30);
  equal(await text(page, 'sha256'), sha256(content(SIZE - 1)), 'the checksum of the second');
  equal(await page.evaluate(() => window.sent), [HALF, SIZE - 1], 'what the connections have sent');
  await choose(page, 'first.bin');
  await isComplete(page);
  equal(await page.evaluate(() => window.sent[2]), SIZE - HALF, 'what the third has sent');
  await end(page);
}, 60);

await report.check('lost-connection-is-found-again-by-the-page', async () => {
  const network = await relay(server);
  const page = await open(browser, network.page, { prepare: stallAfter(HALF) });
  await choose(page, 'lost.bin');
  await stalled(page);
  network.cut();
  await eventually(() => state(page), 'disconnected', 'the state without a network');
  network.mend();
  await isComplete(page);
  equal(await page.evaluate(() => window.sent.filter((size) => size > 0)), [HALF, SIZE - HALF], 'what was sent');
  network.close();
  await end(page);
}, 60);

await report.check('restarted-server-has-the-first-half', async () => {
  const page = await open(browser, server.page, { prepare: stallAfter(HALF) });
  await choose(page, 'restarted.bin');
  await stalled(page);
  await server.stop();
  server = await serve(server.host);
  await isComplete(page);
  equal(await page.evaluate(() => window.sent.filter((size) => size > 0)), [HALF, SIZE - HALF], 'what was sent');
  await end(page);
}, 60);

await report.check('abort-removes-the-file', async () => {
  const page = await open(browser, server.page, { prepare: stallAfter(HALF) });
  const before = files();
  await choose(page, 'aborted.bin');
  await stalled(page);
  equal(files().length, before.length + 2, 'the files while it is uploaded');
  await page.click('#abort');
  await eventually(() => state(page), 'idle', 'the state');
  equal(files(), before, 'the files afterwards');
  equal(await page.locator('#upload').isVisible(), false, 'the upload is visible');
  await choose(page, 'aborted.bin');
  await isComplete(page);
  equal(await page.evaluate(() => window.sent), [HALF, SIZE], 'what the connections have sent');
  await end(page);
}, 60);

await report.check('abort-of-a-paused-upload-removes-the-file', async () => {
  const page = await open(browser, server.page, { prepare: stallAfter(HALF) });
  const before = files();
  await choose(page, 'aborted.bin');
  await stalled(page);
  await page.click('#pause');
  await page.click('#abort');
  await eventually(() => state(page), 'idle', 'the state');
  equal(files(), before, 'the files afterwards');
  equal(await text(page, 'hint'), '', 'the page says that nothing is incomplete');
  await end(page);
}, 60);

await report.check('too-large-a-file-is-refused-with-the-reason', async () => {
  const small = await serve('127.0.0.1:0', '--max-size', '1000');
  const page = await open(browser, small.page, { viewport: { width: 390, height: 844 }, colorScheme: 'dark' });
  const before = files();
  await choose(page, 'large.bin', 1001);
  await eventually(() => state(page), 'failed', 'the state');
  equal(await text(page, 'status'), 'The server refused: a file may have 1000 bytes', 'the reason');
  equal(files(), before, 'the files');
  await screenshot(page, 'upload-refused-phone-dark');
  await choose(page, 'small.bin', 1000);
  await isComplete(page, sha256(content(1000)));
  await end(page);
  await small.stop();
}, 40);

await report.check('a-file-that-there-is-no-room-for-is-refused-with-the-reason', async () => {
  const full = await serve('127.0.0.1:0', '--max-total', '0');
  const page = await open(browser, full.page);
  await choose(page, 'large.bin', 1);
  await eventually(() => state(page), 'failed', 'the state');
  equal(await text(page, 'status'), 'The server refused: the server has room for 0 bytes', 'the reason');
  await end(page);
  await full.stop();
}, 40);

await report.check('server-ends-in-order', async () => {
  await server.stop();
}, 15);

await browser.close();
rmSync(directory, { recursive: true });
report.exit();
