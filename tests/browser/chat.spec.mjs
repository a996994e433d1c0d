#!/usr/bin/env node
// The chat example's page in a real browser.
//
//     node chat.spec.mjs BINARY        node chat.spec.mjs target/release/examples/chat

import { createServer } from 'node:http';
import { Report, equal, eventually, fits, launch, open, screenshot, start } from './common.mjs';

const binary = process.argv[2];
if (!binary) {
  console.error('usage: node chat.spec.mjs BINARY');
  process.exit(2);
}

const MARKUP = '<img src=x onerror="window.hacked=1"><b>bold</b> &amp; "quotes" \'single\' <script>window.hacked=1</script>';

const report = new Report('browser/chat');
const authors = (page) => page.locator('#messages .message .author').allTextContents();
const texts = (page) => page.locator('#messages .message .text').allTextContents();
const people = async (page) => (await page.locator('#people li').allTextContents()).map((s) => s.trim()).sort();
const status = async (page) => ((await page.locator('#status').textContent()) ?? '').toLowerCase();
const connected = (page) => eventually(() => status(page), (text) => /\bconnected\b/.test(text), 'the status');
const withQuery = (page, name, room) =>
  `${page}?name=${encodeURIComponent(name)}&room=${encodeURIComponent(room)}`;

let server;
let browser;
let ada;
let bob;

async function say(page, text) {
  await page.fill('#composer', text);
  await page.click('#send');
}

await report.check('server-starts', async () => {
  server = await start(binary, ['127.0.0.1:0']);
});
await report.check('browser-starts', async () => {
  browser = await launch();
}, 60);
if (!server || !browser) report.exit();

await report.check('joining-and-sending-by-keyboard-alone', async () => {
  bob = await open(browser, withQuery(server.page, 'Bob', 'kitchen'), { colorScheme: 'dark' });
  await connected(bob);

  ada = await open(browser, server.page, { colorScheme: 'light' });
  await screenshot(ada, 'chat-door-desktop-light');
  // From the top of the page, by Tab, until the field has the focus.
  const tabTo = async (id) => {
    for (let steps = 0; steps < 20; steps += 1) {
      if ((await ada.evaluate(() => document.activeElement?.id)) === id) return;
      await ada.keyboard.press('Tab');
    }
    throw new Error(`#${id} cannot be reached with the Tab key`);
  };
  await tabTo('name');
  await ada.keyboard.type('Ada');
  await tabTo('room');
  await ada.keyboard.press('Control+A');
  await ada.keyboard.type('kitchen');
  await ada.keyboard.press('Enter');
  await connected(ada);
  await tabTo('composer');
  await ada.keyboard.type('Is the kettle on? ☕');
  await ada.keyboard.press('Enter');
  await eventually(() => texts(bob), ['Is the kettle on? ☕'], "the other's messages");
  equal(await authors(bob), ['Ada'], 'the author');
  await eventually(() => texts(ada), ['Is the kettle on? ☕'], "the sender's own messages");
  equal(await ada.inputValue('#composer'), '', 'the composer afterwards');
  equal(await ada.evaluate(() => document.activeElement?.id), 'composer', 'the focus afterwards');
}, 40);
if (!ada || !bob) report.exit();

await report.check('answer-by-the-button', async () => {
  await say(bob, 'In a minute.');
  await eventually(() => texts(ada), ['Is the kettle on? ☕', 'In a minute.'], 'the messages');
  equal(await authors(ada), ['Ada', 'Bob'], 'the authors');
});

await report.check('who-is-here-lists-both', async () => {
  await eventually(() => people(ada), ['Ada', 'Bob'], 'the people, for Ada');
  await eventually(() => people(bob), ['Ada', 'Bob'], 'the people, for Bob');
});

await report.check('another-room-sees-nothing', async () => {
  const eve = await open(browser, withQuery(server.page, 'Eve', 'cellar'));
  await connected(eve);
  equal(await texts(eve), [], 'the history of the other room');
  await eventually(() => people(eve), ['Eve'], 'the people of the other room');
  await say(bob, 'Only for the kitchen');
  await eventually(() => texts(ada), (all) => all.at(-1) === 'Only for the kitchen', 'the messages');
  await say(eve, 'Only for the cellar');
  await eventually(() => texts(eve), ['Only for the cellar'], "the other room's messages");
  equal((await texts(ada)).includes('Only for the cellar'), false, 'a word from the other room');
  equal(await people(ada), ['Ada', 'Bob'], 'the people');
  equal(eve.trouble, [], 'trouble');
  await eve.context().close();
});

await report.check('a-late-comer-sees-the-history', async () => {
  const carl = await open(browser, withQuery(server.page, 'Carl', 'kitchen'));
  await connected(carl);
  await eventually(
    () => texts(carl),
    ['Is the kettle on? ☕', 'In a minute.', 'Only for the kitchen'],
    'the history',
  );
  equal(await authors(carl), ['Ada', 'Bob', 'Bob'], 'its authors');
  await eventually(() => people(ada), ['Ada', 'Bob', 'Carl'], 'the people with the third');
  equal(carl.trouble, [], 'trouble');
  await carl.context().close();
  await eventually(() => people(ada), ['Ada', 'Bob'], 'the people when the third has left');
});

await report.check('markup-is-shown-as-text', async () => {
  const before = (await texts(bob)).length;
  const mallory = await open(browser, withQuery(server.page, '<i onclick=1>M</i>', 'kitchen'));
  await connected(mallory);
  await say(mallory, MARKUP);
  for (const page of [ada, bob, mallory]) {
    await eventually(() => texts(page), (all) => all.at(-1) === MARKUP, 'the message');
    equal((await authors(page)).at(-1), '<i onclick=1>M</i>', 'the author');
    equal((await people(page)).includes('<i onclick=1>M</i>'), true, 'the name among the people');
    equal(await page.locator('#messages :is(img, b, i, script), #people i').count(), 0, 'elements out of the text');
    equal(await page.evaluate(() => window.hacked ?? null), null, 'what the script left');
  }
  equal((await texts(bob)).length, before + 1, 'the number of messages');
  await mallory.context().close();
});

await report.check('a-stranger-page-is-refused', async () => {
  // A page of another origin tries to use the chat in its visitor's name.
  const stranger = createServer((_, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><link rel="icon" href="data:,"><title>stranger</title>');
  });
  await new Promise((resolve) => stranger.listen(0, '127.0.0.1', resolve));
  const page = await open(browser, `http://127.0.0.1:${stranger.address().port}/`);
  // The chat's own page can, so that it is the origin which makes the difference.
  for (const [from, wanted] of [[ada, 'opened'], [page, 'refused']]) {
    const outcome = await from.evaluate(
      (url) =>
        new Promise((resolve) => {
          const socket = new WebSocket(url);
          socket.onopen = () => {
            resolve('opened');
            socket.close();
          };
          socket.onerror = () => resolve('refused');
        }),
      `ws://${server.host}/ws`,
    );
    equal(outcome, wanted, `a connection from ${new URL(from.url()).origin}`);
  }
  await page.context().close();
  stranger.close();
});

await report.check('looks-desktop-and-phone', async () => {
  await say(ada, `A long one: ${'lorem ipsum dolor sit amet '.repeat(20)}`);
  await say(bob, `And one without a gap: ${'w'.repeat(300)}`);
  await eventually(() => texts(ada), (all) => all.at(-1)?.endsWith('www'), 'the messages');
  await screenshot(ada, 'chat-desktop-light');
  await screenshot(bob, 'chat-desktop-dark');
  await fits(ada);
  await fits(bob);
  for (const colorScheme of ['light', 'dark']) {
    const phone = await open(browser, withQuery(server.page, 'Phone', 'kitchen'), {
      viewport: { width: 390, height: 844 },
      deviceScaleFactor: 2,
      hasTouch: true,
      isMobile: true,
      colorScheme,
    });
    await connected(phone);
    await eventually(() => texts(phone), (all) => all.at(-1)?.endsWith('www'), 'the messages');
    await screenshot(phone, `chat-phone-${colorScheme}`);
    await fits(phone);
    for (const id of ['#composer', '#send']) {
      const box = await phone.locator(id).boundingBox();
      const inside = box && box.x >= 0 && box.y >= 0 && box.x + box.width <= 390 && box.y + box.height <= 844;
      if (!inside) throw new Error(`${id} is not within the phone's window: ${JSON.stringify(box)}`);
    }
    equal(phone.trouble, [], 'trouble');
    await phone.context().close();
  }
}, 40);

await report.check('the-page-says-that-the-server-is-gone', async () => {
  await server.stop();
  for (const page of [ada, bob]) {
    await eventually(() => status(page), (text) => /reconnect|going away|disconnect/.test(text), 'the status');
    equal(await page.locator('#status').isVisible(), true, 'the status is visible');
  }
  await screenshot(ada, 'chat-desktop-reconnecting');
}, 30);

await report.check('reconnects-when-the-server-is-back', async () => {
  server = await start(binary, [server.host]);
  for (const page of [ada, bob]) {
    await eventually(() => status(page), (text) => /\bconnected\b/.test(text), 'the status', 40);
  }
  await eventually(() => people(ada), ['Ada', 'Bob'], 'the people');
  await say(ada, 'Back again');
  await eventually(() => texts(bob), (all) => all.at(-1) === 'Back again', 'the messages');
}, 60);

await report.check('no-errors-on-the-pages', async () => {
  equal(ada.trouble, [], "trouble on Ada's page");
  equal(bob.trouble, [], "trouble on Bob's page");
});

await report.check('server-ends-in-order', async () => {
  await server.stop();
}, 15);

await browser.close();
report.exit();
