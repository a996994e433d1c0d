#!/usr/bin/env node
// The chat example's page in a real browser.
//
//     node chat.spec.mjs BINARY [DIRECTORY]        node chat.spec.mjs target/release/examples/chat
//
// DIRECTORY has what .ci/certificates makes: then all goes over TLS.

import { createServer } from 'node:http';
import { Report, certificate, equal, eventually, fits, launch, opacity, open, relay, screenshot, start } from './common.mjs';

const [binary, tls] = process.argv.slice(2);
if (!binary) {
  console.error('usage: node chat.spec.mjs BINARY [DIRECTORY]');
  process.exit(2);
}

const MARKUP = '<img src=x onerror="window.hacked=1"><b>bold</b> &amp; "quotes" \'single\' <script>window.hacked=1</script>';

const report = new Report(tls ? 'browser/chat-tls' : 'browser/chat');
const authors = (page) => page.locator('#messages .message .author').allTextContents();
const texts = (page) => page.locator('#messages .message .text').allTextContents();
const aboutMissed = async (page) =>
  (await page.locator('#messages .event').allTextContents()).filter((text) => text.includes('missed'));
const people = async (page) => (await page.locator('#people li').allTextContents()).map((s) => s.trim()).sort();
const status = async (page) => ((await page.locator('#status').textContent()) ?? '').toLowerCase();
const connected = (page) => eventually(() => status(page), (text) => /\bconnected\b/.test(text), 'the status');
const withQuery = (page, name, room) =>
  `${page}?name=${encodeURIComponent(name)}&room=${encodeURIComponent(room)}`;

const DIMMED = ['#messages', 'aside', '#composer-form'];

/** Records where the parts of the room are in each frame, and each layout shift that the browser reports. */
async function recordLayout(page) {
  await page.addInitScript(() => {
    window.layouts = new Set();
    window.shifts = [];
    new PerformanceObserver((list) => {
      for (const { value, sources } of list.getEntries()) {
        window.shifts.push(`${value}: ${sources.map(({ node }) => node?.id || node?.className || node?.nodeName)}`);
      }
    }).observe({ type: 'layout-shift', buffered: true });
    const look = () => {
      requestAnimationFrame(look);
      if (document.getElementById('chat')?.hidden !== false) return;
      const boxes = ['header', '#leave', 'aside', '#messages', '#composer', '#send'].map((selector) => {
        const { x, y, width, height } = document.querySelector(selector).getBoundingClientRect();
        return [selector, x, y, width, height];
      });
      window.layouts.add(JSON.stringify(boxes));
    };
    look();
  });
}

async function stays(page) {
  equal(await page.evaluate(() => window.shifts), [], 'the layout shifts');
  const layouts = await page.evaluate(() => [...window.layouts]);
  if (layouts.length !== 1) throw new Error(`the layout changed: ${layouts.join(' then ')}`);
}

let server;
let browser;
let ada;
let bob;
let phone;

async function say(page, text) {
  await page.fill('#composer', text);
  await page.click('#send');
}

await report.check('server-starts', async () => {
  server = await start(binary, ['127.0.0.1:0', ...certificate(tls)], [tls ? 'wss' : 'ws']);
});
await report.check('browser-starts', async () => {
  browser = await launch(tls);
}, 60);
if (!server || !browser) report.exit();

await report.check('joining-and-sending-by-keyboard-alone', async () => {
  bob = await open(browser, withQuery(server.page, 'Bob', 'kitchen'), { colorScheme: 'dark' });
  await connected(bob);

  ada = await open(browser, server.page, { colorScheme: 'light' });
  await screenshot(ada, 'chat-sign-in-desktop-light');
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
      `${server.url}/ws`,
    );
    equal(outcome, wanted, `a connection from ${new URL(from.url()).origin}`);
  }
  await page.context().close();
  stranger.close();
});

await report.check('web-addresses-become-links-and-nothing-else-does', async () => {
  const said = [
    'See https://example.com/a?b=1&c=2#d, or (http://example.org/x_(y)).',
    'https://example.com/"onmouseover="window.hacked=1" <a href="https://example.net/">x</a>',
    'https://example.org/\u202Egpj.exe', // a link ends before a character that reverses the text
    'javascript:alert(1) data:text/html,x ftp://example.com/ https:// //example.com xhttp://example.com/',
  ];
  const wanted = ['https://example.com/a?b=1&c=2#d', 'http://example.org/x_(y)', 'https://example.com/', 'https://example.net/', 'https://example.org/'];
  const before = await bob.locator('#messages .text').count();
  for (const text of said) await say(ada, text);
  for (const page of [ada, bob]) {
    await eventually(async () => (await texts(page)).slice(before), said, 'the messages');
    const links = await page.locator('#messages .text *').evaluateAll((nodes) =>
      nodes.map((node) => ({ tag: node.localName, attributes: Object.fromEntries([...node.attributes].map(({ name, value }) => [name, value])) })),
    );
    equal(links.map(({ tag }) => tag), wanted.map(() => 'a'), 'the elements in messages');
    equal(links.map(({ attributes }) => attributes.href), wanted, 'the addresses');
    for (const { attributes } of links) {
      const { href, class: _, ...rest } = attributes;
      equal(Object.entries(rest).sort(), [['rel', 'noopener noreferrer'], ['target', '_blank']], `the attributes for ${href}`);
    }
    equal(await page.evaluate(() => window.hacked ?? null), null, 'what the script left');
  }
});

await report.check('a-group-of-messages-has-one-time-stamp', async () => {
  const before = await ada.locator('#messages .message').count();
  for (const text of ['one', 'two', 'three']) await say(bob, text);
  await eventually(() => texts(ada), (all) => all.at(-1) === 'three', 'the messages');
  await say(ada, 'four');
  for (const page of [ada, bob]) {
    await eventually(() => texts(page), (all) => all.at(-1) === 'four', 'the messages');
    const stamps = await page.locator('#messages .message').evaluateAll((nodes) =>
      nodes.map((node) => [...node.querySelectorAll('time')].filter((time) => time.getBoundingClientRect().width > 1).length),
    );
    equal(stamps.slice(before), [1, 0, 0, 1], 'the number of time stamps');
  }
});

await report.check('ten-names-have-ten-readable-colors', async () => {
  const names = ['Ada', 'Bob', 'Carl', 'Dora', 'Eve', 'Finn', 'Gül', 'Hedy', '李'];
  await ada.evaluate(async (names) => {
    for (const name of names) {
      await new Promise((resolve, reject) => {
        const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/ws`);
        socket.onerror = reject;
        socket.onopen = () => socket.send(JSON.stringify({ type: 'join', name, room: 'palette' }));
        socket.onmessage = ({ data }) => {
          const { type, author } = JSON.parse(data);
          if (type === 'welcome') socket.send(JSON.stringify({ type: 'say', text: 'hello' }));
          if (type === 'said' && author === name) resolve();
        };
      });
    }
  }, names);
  const viewer = await open(browser, withQuery(server.page, 'Zoe', 'palette'));
  await connected(viewer);
  await eventually(() => authors(viewer), names, 'the authors');
  for (const colorScheme of ['light', 'dark']) {
    await viewer.emulateMedia({ colorScheme });
    const { ground, colors, dots } = await viewer.evaluate(() => {
      const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
      const rgb = (color) => {
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
      };
      const all = (selector) => [...document.querySelectorAll(selector)];
      return {
        ground: rgb(getComputedStyle(document.getElementById('chat')).backgroundColor),
        colors: all('#messages .author').map((node) => rgb(getComputedStyle(node).color)),
        dots: all('#people li').map((node) => getComputedStyle(node, '::before').backgroundColor),
      };
    });
    // WCAG 2, relative luminance and contrast ratio
    const luminance = (color) => {
      const [r, g, b] = color.map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    equal(colors.length, names.length, 'the number of names');
    for (const [i, color] of colors.entries()) {
      const [dark, light] = [luminance(color), luminance(ground)].sort((a, b) => a - b);
      const contrast = (light + 0.05) / (dark + 0.05);
      if (contrast < 4.5) throw new Error(`the contrast of ${names[i]} is ${contrast.toFixed(2)} (${colorScheme})`);
      for (const [j, other] of colors.slice(0, i).entries()) {
        const distance = Math.hypot(...color.map((part, at) => part - other[at]));
        if (distance < 40) throw new Error(`${names[i]} and ${names[j]} look alike: ${color}, ${other} (${colorScheme})`);
      }
    }
    equal(dots.length, names.length + 1, 'the number of people');
    equal(new Set(dots).size, dots.length, `the colors of the people (${colorScheme})`);
    await screenshot(viewer, `chat-names-${colorScheme}`);
  }
  equal(viewer.trouble, [], 'trouble');
  await viewer.context().close();
});

await report.check('nothing-jumps-on-a-phone', async () => {
  const room = 'W'.repeat(32);
  phone = await open(browser, withQuery(server.page, 'Phone', room), {
    viewport: { width: 390, height: 844 },
    deviceScaleFactor: 2,
    hasTouch: true,
    isMobile: true,
    prepare: recordLayout,
  });
  await connected(phone);
  await screenshot(phone, 'chat-phone-empty');
  await phone.tap('#composer');
  // Mobile browsers zoom in on a focused field with smaller text.
  equal(await phone.locator('#composer').evaluate((node) => parseFloat(getComputedStyle(node).fontSize) >= 16), true, 'the size of the text');
  await say(phone, 'The first message');
  const first = phone.locator('#messages .message').first();
  await first.waitFor();
  const place = await first.boundingBox();
  const friend = await open(browser, withQuery(server.page, 'A friend with a rather long name', room));
  await connected(friend);
  await say(friend, `https://example.com/${'w'.repeat(200)}`);
  await eventually(() => texts(phone), (all) => all.length === 2, 'the messages');
  equal(await first.boundingBox(), place, 'the place of the first message');
  for (let i = 0; i < 15; i += 1) await say(friend, `Message ${i}`);
  await eventually(() => texts(phone), (all) => all.at(-1) === 'Message 14', 'the messages');
  await screenshot(phone, 'chat-phone-full');
  await friend.context().close();
  await eventually(() => people(phone), ['Phone'], 'the people');
  await stays(phone);
  await fits(phone);
}, 40);

await report.check('nothing-jumps-for-a-keyboard-or-a-notice', async () => {
  const small = await open(browser, withQuery(server.page, 'Keys', 'keyboard'), {
    viewport: { width: 390, height: 844 },
    hasTouch: true,
    isMobile: true,
  });
  await connected(small);
  for (let i = 0; i < 20; i += 1) await say(small, `Message ${i}`);
  await eventually(() => texts(small), (all) => all.at(-1) === 'Message 19', 'the messages');
  const rectangle = (selector) =>
    small.locator(selector).evaluate((node) => {
      const { top, bottom, left, right } = node.getBoundingClientRect();
      return [top, bottom, left, right];
    });
  const places = () => Promise.all(['header', 'aside', '#messages', '#composer', '#send'].map(rectangle));
  const gap = async () => (await rectangle('#messages'))[1] - (await rectangle('#messages > :last-child'))[1];
  const inView = (pixels) => pixels >= 0;
  await small.evaluate(() => document.activeElement.blur());
  const before = await places();
  await small.tap('#composer');
  equal(await places(), before, 'the places with the focus');

  // With interactive-widget=resizes-content, the keyboard makes the window lower.
  await small.setViewportSize({ width: 390, height: 480 });
  await eventually(gap, inView, 'the latest message above the keyboard');
  equal((await rectangle('header'))[0], 0, 'the top of the header');
  equal((await rectangle('#composer-form'))[1], 480, 'the bottom of the composer');
  equal(await small.evaluate(() => [scrollX, scrollY, visualViewport.scale]), [0, 0, 1], 'the scroll position and the zoom');
  await fits(small);
  await screenshot(small, 'chat-phone-keyboard');
  await small.setViewportSize({ width: 390, height: 844 });
  await eventually(gap, inView, 'the latest message without the keyboard');
  equal(await places(), before, 'the places without the keyboard');

  // The server refuses a longer text, and the page shows why.
  await small.evaluate(() => document.getElementById('composer').removeAttribute('maxlength'));
  await say(small, 'x'.repeat(4001));
  await small.locator('#notice').waitFor();
  equal(await places(), before, 'the places with a notice');
  equal(small.trouble, [], 'trouble');
  await small.context().close();
}, 40);

let dora; // behind a relay
let ed;
let line;

/** Cuts Dora's page off while `act` runs. */
async function offline(act) {
  line.cut();
  await eventually(() => status(dora), (text) => text.includes('reconnecting'), 'the status without a network');
  await act();
  line.mend();
  await eventually(() => status(dora), (text) => /\bconnected\b/.test(text), 'the status', 40);
}

await report.check('a-page-that-was-offline-gets-what-it-missed-once', async () => {
  line = await relay(server);
  dora = await open(browser, withQuery(line.page, 'Dora', 'attic'));
  ed = await open(browser, withQuery(server.page, 'Ed', 'attic'));
  await connected(dora);
  await connected(ed);
  const said = ['before'];
  await say(ed, 'before');
  for (let outage = 0; outage < 2; outage += 1) {
    await eventually(() => texts(dora), said, 'the messages before');
    await offline(async () => {
      for (let i = 0; i < 3; i += 1) {
        said.push(`while away ${outage}.${i}`);
        await say(ed, said.at(-1));
      }
      await eventually(() => texts(ed), said, 'the messages of who stayed');
    });
    said.push('afterwards', 'and more');
    await say(ed, 'afterwards');
    await eventually(() => texts(dora), (all) => all.includes('afterwards'), 'the messages afterwards');
    await say(dora, 'and more');
    await eventually(() => texts(dora), said, 'all messages');
  }
  equal(await aboutMissed(dora), [], 'what is said of missed messages');
  await eventually(() => people(ed), ['Dora', 'Ed'], 'the people');
}, 90);

await report.check('a-page-that-missed-more-than-the-history-says-so', async () => {
  await offline(async () => {
    await ed.evaluate(
      () =>
        new Promise((resolve, reject) => {
          const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/ws`);
          socket.onerror = reject;
          socket.onclose = resolve;
          socket.onopen = () => {
            socket.send(JSON.stringify({ type: 'join', name: 'Reader', room: 'attic' }));
            for (let i = 1; i <= 130; i += 1) socket.send(JSON.stringify({ type: 'say', text: `line ${i}` }));
          };
          socket.onmessage = ({ data }) => JSON.parse(data).text === 'line 130' && socket.close();
        }),
    );
  });
  await eventually(() => texts(dora), (all) => all.at(-1) === 'line 130', 'the messages');
  const lines = await dora.locator('#messages > *').evaluateAll((nodes) =>
    nodes.map((node) => node.querySelector('.text')?.textContent ?? node.textContent),
  );
  const place = lines.indexOf('30 messages were missed');
  equal(lines.slice(place), ['30 messages were missed', ...Array.from({ length: 100 }, (_, i) => `line ${i + 31}`)], 'what followed');
  equal(lines.includes('line 30'), false, 'a message that is lost');
  equal(lines[place - 1], 'and more', 'the last message before');
  await dora.locator('#messages .event', { hasText: 'missed' }).scrollIntoViewIfNeeded();
  await screenshot(dora, 'chat-missed');
  for (const page of [dora, ed]) {
    equal(page.trouble, [], 'trouble');
    await page.context().close();
  }
  line.close();
}, 60);

await report.check('looks-desktop-and-phone', async () => {
  await say(ada, `A long one: ${'lorem ipsum dolor sit amet '.repeat(20)}`);
  await say(bob, `And one without a gap: ${'w'.repeat(300)}`);
  await eventually(() => texts(ada), (all) => all.at(-1)?.endsWith('www'), 'the messages');
  await screenshot(ada, 'chat-desktop-light');
  await screenshot(bob, 'chat-desktop-dark');
  await fits(ada);
  await fits(bob);
  for (const colorScheme of ['light', 'dark']) {
    const small = await open(browser, withQuery(server.page, 'Phone', 'kitchen'), {
      viewport: { width: 390, height: 844 },
      deviceScaleFactor: 2,
      hasTouch: true,
      isMobile: true,
      colorScheme,
    });
    await connected(small);
    await eventually(() => texts(small), (all) => all.at(-1)?.endsWith('www'), 'the messages');
    await screenshot(small, `chat-phone-${colorScheme}`);
    await fits(small);
    for (const id of ['#composer', '#send']) {
      const box = await small.locator(id).boundingBox();
      const inside = box && box.x >= 0 && box.y >= 0 && box.x + box.width <= 390 && box.y + box.height <= 844;
      if (!inside) throw new Error(`${id} is not within the phone's window: ${JSON.stringify(box)}`);
    }
    equal(small.trouble, [], 'trouble');
    await small.context().close();
  }
}, 40);

await report.check('the-page-says-that-the-server-is-gone', async () => {
  const places = await Promise.all(DIMMED.map((selector) => ada.locator(selector).boundingBox()));
  for (const selector of DIMMED) equal(await opacity(ada, selector), 1, `the opacity of ${selector} at first`);
  equal(await ada.locator('#banner').isVisible(), false, 'the banner is visible at first');
  for (const page of [ada, bob, phone]) await page.fill('#composer', 'a draft');
  await server.stop();
  for (const page of [ada, bob, phone]) {
    await eventually(() => status(page), (text) => /reconnect|going away|disconnect/.test(text), 'the status');
    equal(await page.locator('#status').isVisible(), true, 'the status is visible');
    equal(await page.locator('#banner').isVisible(), true, 'the banner is visible');
    equal(/^Disconnected/.test(await page.locator('#banner').textContent()), true, 'the banner says so');
    for (const id of ['#composer', '#send']) equal(await page.locator(id).isDisabled(), true, `${id} is disabled`);
    for (const selector of DIMMED) {
      await eventually(() => opacity(page, selector), (value) => value < 0.6, `the opacity of ${selector}`);
    }
    await fits(page);
  }
  equal(await Promise.all(DIMMED.map((selector) => ada.locator(selector).boundingBox())), places, 'the places');
  await stays(phone);
  await screenshot(ada, 'chat-desktop-reconnecting');
  await screenshot(bob, 'chat-desktop-reconnecting-dark');
  await screenshot(phone, 'chat-phone-reconnecting');
}, 30);

await report.check('reconnects-when-the-server-is-back', async () => {
  server = await start(binary, [server.host, ...certificate(tls)], [tls ? 'wss' : 'ws']);
  for (const page of [ada, bob, phone]) {
    await eventually(() => status(page), (text) => /\bconnected\b/.test(text), 'the status', 40);
    equal(await page.locator('#banner').isVisible(), false, 'the banner is visible');
    for (const id of ['#composer', '#send']) equal(await page.locator(id).isEnabled(), true, `${id} is enabled`);
    for (const selector of DIMMED) await eventually(() => opacity(page, selector), 1, `the opacity of ${selector}`);
  }
  for (const page of [ada, bob, phone]) {
    equal(await page.inputValue('#composer'), 'a draft', 'the draft');
    equal(await page.evaluate(() => document.activeElement?.id), 'composer', 'the focus');
  }
  await stays(phone);
  await eventually(() => people(ada), ['Ada', 'Bob'], 'the people');
  // The new process has no history, and the pages keep what they have.
  equal(await aboutMissed(ada), ['It is not known whether messages were missed'], 'what is said of missed messages');
  equal((await texts(ada)).includes('In a minute.'), true, 'an earlier message is there');
  await screenshot(ada, 'chat-restarted');
  await say(ada, 'Back again');
  await eventually(() => texts(bob), (all) => all.at(-1) === 'Back again', 'the messages');
}, 60);

await report.check('no-errors-on-the-pages', async () => {
  equal(ada.trouble, [], "trouble on Ada's page");
  equal(bob.trouble, [], "trouble on Bob's page");
  equal(phone.trouble, [], 'trouble on the phone');
});

await report.check('server-ends-in-order', async () => {
  await server.stop();
}, 15);

await browser.close();
report.exit();
