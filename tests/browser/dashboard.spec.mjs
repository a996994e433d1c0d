#!/usr/bin/env node
// The dashboard example's page in a real browser.
//
//     node dashboard.spec.mjs BINARY        node dashboard.spec.mjs target/release/examples/dashboard

import { LOOKS, Report, equal, eventually, fits, launch, opacity, open, screenshot, start, state } from './common.mjs';

const binary = process.argv[2];
if (!binary) {
  console.error('usage: node dashboard.spec.mjs BINARY');
  process.exit(2);
}

const report = new Report('browser/dashboard');
const PLOTS = ['connections', 'messages', 'bytes', 'iteration', 'callback', 'queued', 'memory'];
const TIMES = ['−2 min', '−1 min', 'now'];

const dashboard = () => `${server.page}dashboard`;
const isLive = (page) => eventually(() => state(page), 'connected', 'the state');
const legend = async (page, plot) => page.locator(`#${plot} .legend span`).allTextContents();
const rows = (page, table) =>
  page.locator(`#${table} tbody tr`).evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
/** Of each connection in the table, how many messages went in and out; sorted, for the order may change. */
const messages = async (page) => (await rows(page, 'peers')).map((cells) => cells.slice(4).join(' in, ')).sort();

let server;
let browser;

/** A page with WebSocket clients of the chat: `join(count)`, `say(client, times)`, `close(client, code)`. */
async function clients() {
  const page = await open(browser, server.page);
  await page.evaluate(() => {
    window.sockets = [];
    window.got = [];
  });
  return {
    join: (count) =>
      page.evaluate(async (count) => {
        for (let i = 0; i < count; i += 1) {
          const socket = new WebSocket(new URL('/ws', location.href.replace('http', 'ws')));
          const number = window.sockets.push(socket) - 1;
          window.got[number] = 0;
          socket.onopen = () => socket.send(JSON.stringify({ type: 'join', name: `client ${number}`, room: 'a room' }));
          // One after the other, so that each knows how many are told that it has come.
          await new Promise((resolve) => {
            socket.onmessage = ({ data }) => {
              window.got[number] += 1;
              if (JSON.parse(data).type === 'welcome') resolve();
            };
          });
        }
      }, count),
    say: (number, times) =>
      page.evaluate(([number, times]) => {
        for (let i = 0; i < times; i += 1) window.sockets[number].send(JSON.stringify({ type: 'say', text: `message ${i}` }));
      }, [number, times]),
    got: () => page.evaluate(() => window.got),
    close: (number, code) =>
      page.evaluate(([number, code]) => {
        const closed = new Promise((resolve) => window.sockets[number].addEventListener('close', resolve));
        window.sockets[number].close(code);
        return closed.then(() => {});
      }, [number, code]),
    end: () => page.context().close(),
  };
}

/** Records the text of the latest drawing of each plot: the labels of its axes. */
async function recordLabels(page) {
  await page.addInitScript(() => {
    const { getContext } = HTMLCanvasElement.prototype;
    const { fillText } = CanvasRenderingContext2D.prototype;
    window.labels = {};
    HTMLCanvasElement.prototype.getContext = function (...args) {
      window.labels[this.closest('figure').id] = [];
      return getContext.apply(this, args);
    };
    CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
      window.labels[this.canvas.closest('figure').id].push(text);
      return fillText.call(this, text, ...rest);
    };
  });
}

await report.check('server-starts', async () => {
  server = await start(binary, ['127.0.0.1:0']);
});
await report.check('browser-starts', async () => {
  browser = await launch();
}, 60);
if (!server || !browser) report.exit();

await report.check('page-without-clients-says-so-and-links-to-the-chat', async () => {
  const page = await open(browser, dashboard());
  await isLive(page);
  equal(await page.locator('#no-peers').isVisible(), true, 'the text without connections is visible');
  equal(await page.locator('#no-closes').isVisible(), true, 'the text without close codes is visible');
  equal(await page.locator('#peers, #closes').evaluateAll((tables) => tables.map(({ hidden }) => hidden)), [true, true], 'the tables are hidden');
  await screenshot(page, 'dashboard-empty');
  await page.click('nav a >> text=Chat');
  equal(await page.title(), 'Chat', 'the title of the other page');
  equal(page.trouble, [], 'trouble');
  await page.context().close();
});

await report.check('connections-and-their-messages-are-listed', async () => {
  const page = await open(browser, dashboard());
  await isLive(page);
  const chat = await clients();
  await chat.join(3);
  await eventually(() => legend(page, 'connections').then(([first]) => first), 'WebSocket 3', 'the connections');
  await chat.say(0, 100);
  await chat.say(1, 20);
  // In: the message that joins and what was said. Out: the welcome, those who joined later, and what anybody said.
  await eventually(() => messages(page), ['1 in, 121', '101 in, 123', '21 in, 122'], 'the messages of the connections');
  await eventually(() => chat.got(), [123, 122, 121], 'what the clients got');
  equal(await page.locator('#peers-count').textContent(), '3', 'the count of the list');
  const cells = await rows(page, 'peers');
  equal(new Set(cells.map(([id]) => id)).size, 3, 'the number of different ids');
  equal(cells.every(([, address]) => /^127\.0\.0\.1:\d+$/.test(address)), true, `the addresses ${cells.map(([, a]) => a)}`);
  equal(cells.every(([, , age]) => /^\d+ s$/.test(age)), true, `the ages ${cells.map(([, , a]) => a)}`);
  equal(cells.every(([, , , queued]) => /^\d+ B$/.test(queued)), true, `the queued bytes ${cells.map(([, , , q]) => q)}`);

  await chat.close(0, 1000);
  await chat.close(1, 3456);
  await eventually(
    () => rows(page, 'closes'),
    [['1000', 'normal closure', '1'], ['3000+', 'registered codes', '1']],
    'the close codes',
  );
  await eventually(() => rows(page, 'peers').then((rows) => rows.length), 1, 'the connections in the list');
  await chat.end();
  await eventually(() => legend(page, 'connections').then(([first]) => first), 'WebSocket 0', 'the connections at last');
  equal(page.trouble, [], 'trouble');
  await page.context().close();
}, 60);

const looks = {
  ...LOOKS,
  'phone-dark': { colorScheme: 'dark', viewport: { width: 390, height: 844 }, isMobile: true, deviceScaleFactor: 2 },
};
for (const [name, options] of Object.entries(looks)) {
  await report.check(`a-stream-of-messages-is-plotted-${name}`, async () => {
    const chat = await clients();
    await chat.join(5);
    const page = await open(browser, dashboard(), { ...options, prepare: recordLabels });
    await isLive(page);
    for (let i = 0; i < 40; i += 1) {
      await chat.say(i % 5, 10 + Math.round(8 * Math.sin(i / 5)));
      await page.waitForTimeout(150); // the stream takes some seconds, as a real one does
    }
    const numbers = async (plot) => (await legend(page, plot)).map((text) => Number(text.match(/[\d.]+/)?.[0] ?? NaN));
    const stream = setInterval(() => chat.say(0, 5).catch(() => {}), 100);
    await eventually(() => numbers('messages'), ([received, sent]) => received >= 10 && sent >= 10, 'messages a second');
    await eventually(() => numbers('bytes'), ([received, sent]) => received > 0 && sent > 0, 'bytes a second');
    await eventually(() => numbers('iteration'), ([p50, p99]) => p50 > 0 && p99 > 0, 'the time of iterations');
    clearInterval(stream);
    const labels = await page.evaluate(() => window.labels);
    for (const plot of PLOTS) {
      equal(labels[plot].filter((text) => TIMES.includes(text)), TIMES, `the labels of the time axis of ${plot}`);
      equal(labels[plot].length >= TIMES.length + 3, true, `the values on the axis of ${plot}, ${labels[plot]}`);
      const label = await page.locator(`#${plot} canvas`).getAttribute('aria-label');
      equal(/ in the last 2 minutes, now .+, on an axis from 0 to /.test(label), true, `the words for ${plot}: ${label}`);
      const box = await page.locator(`#${plot} canvas`).boundingBox();
      equal(box.width > 100 && box.height > 50, true, `the plot ${plot} has a size`);
    }
    await page.evaluate(() => scrollTo(0, 0));
    await screenshot(page, `dashboard-${name}`);
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    await screenshot(page, `dashboard-${name}-end`);
    await fits(page);
    equal(page.trouble, [], 'trouble');
    await chat.end();
    await page.context().close();
  }, 60);
}

await report.check('page-fits-windows-of-any-width', async () => {
  const page = await open(browser, dashboard());
  await isLive(page);
  for (const width of [320, 390, 600, 800, 1024, 1280, 1920, 2560]) {
    await page.setViewportSize({ width, height: 800 });
    await fits(page);
    for (const plot of PLOTS) {
      const box = await page.locator(`#${plot} canvas`).boundingBox();
      equal(box.width >= 180 && box.x >= 0 && box.x + box.width <= width, true, `the plot ${plot} at ${width}`);
    }
  }
  equal(page.trouble, [], 'trouble');
  await page.context().close();
});

/** A text of metrics: so many messages in and out, so many bytes, and for each bound of a class so many calls. */
function metricsText({ received, sent, bytes, calls, closed }) {
  const histogram = (name) => {
    const total = calls.reduce((sum, [, count]) => sum + count, 0);
    let soFar = 0;
    const buckets = calls.map(([bound, count]) => `threadbare_server_${name}_bucket{le="${bound}"} ${(soFar += count)}\n`);
    return `# TYPE threadbare_server_${name} histogram\n${buckets.join('')}threadbare_server_${name}_bucket{le="+Inf"} ${total}\n`;
  };
  return `threadbare_server_connections 4
threadbare_server_accepted_total 9
threadbare_server_connections_opened_total 9
threadbare_server_connections_closed_total{code="1000"} ${closed}
threadbare_server_connections_closed_total{code="4000"} 1
threadbare_server_messages_received_total ${received}
threadbare_server_messages_sent_total ${sent}
threadbare_server_received_bytes_total ${bytes}
threadbare_server_sent_bytes_total ${bytes * 2}
threadbare_server_queued_bytes 123456
threadbare_server_memory_bytes 7000000
${histogram('iteration_seconds')}${histogram('callback_seconds')}# EOF
`;
}

await report.check('rates-and-times-are-those-between-two-fetches', async () => {
  let text = metricsText({ received: 1000, sent: 5000, bytes: 0, closed: 2, calls: [[1e-6, 1000], [1e-3, 0], [1, 0]] });
  const page = await open(browser, dashboard(), {
    prepare: async (page) => {
      await page.clock.install();
      await page.route('**/metrics', (route) => route.fulfill({ contentType: 'application/openmetrics-text', body: text }));
    },
  });
  const shows = (wanted) => eventually(() => Promise.all(Object.keys(wanted).map((plot) => legend(page, plot))), Object.values(wanted), 'the legends');
  await page.clock.pauseAt(Date.now() + 3_600_000);
  await page.clock.runFor(1000);
  await shows({ connections: ['WebSocket 6', 'with HTTP 4'], queued: ['waiting 123 kB'], memory: ['taken 7 MB'] });
  // 90 of 100 calls were shorter than a millisecond; the thousand before do not count.
  text = metricsText({ received: 1040, sent: 5200, bytes: 1500, closed: 5, calls: [[1e-6, 1000], [1e-3, 90], [1, 10]] });
  await page.clock.runFor(1000);
  await shows({
    connections: ['WebSocket 3', 'with HTTP 4'],
    messages: ['in 40', 'out 200'],
    bytes: ['in 1.5 kB', 'out 3 kB'],
    iteration: ['p50 1 ms', 'p99 1 s'],
    callback: ['p50 1 ms', 'p99 1 s'],
  });
  equal(await rows(page, 'closes'), [['1000', 'normal closure', '5'], ['4000+', 'private codes', '1']], 'the close codes');
  await page.clock.runFor(1000);
  await shows({ messages: ['in 0', 'out 0'], iteration: ['p50 –', 'p99 –'] });
  equal(page.trouble, [], 'trouble');
  await page.context().close();
}, 40);

await report.check('list-says-what-waits-and-which-connections-are-closing', async () => {
  const peer = (id, age_seconds, open, queued_bytes, messages_received, messages_sent) =>
    ({ id, address: '[2001:db8::1]:65535', age_seconds, open, queued_bytes, messages_received, messages_sent });
  const text = metricsText({ received: 0, sent: 0, bytes: 0, closed: 2, calls: [[1, 0]] });
  const list = [peer('1.2.3', 200_000, true, 1_048_576, 7, 1234), peer('0.0.1', 7265.5, false, 999, 0, 0)];
  const page = await open(browser, dashboard(), {
    viewport: { width: 390, height: 844 },
    prepare: async (page) => {
      await page.route('**/metrics', (route) => route.fulfill({ contentType: 'application/openmetrics-text', body: text }));
      await page.route('**/peers', (route) => route.fulfill({ json: list }));
    },
  });
  await isLive(page);
  equal(await rows(page, 'peers'), [
    ['1.2.3', '[2001:db8::1]:65535', '2 d 7 h', '1 MB', '7', '1,234'],
    ['0.0.1', '[2001:db8::1]:65535', '2 h 1 min, closing', '999 B', '0', '0'],
  ], 'the list');
  equal(await page.locator('#peers-count').textContent(), '2 of 6', 'the count of the list');
  await fits(page);
  list.reverse().pop();
  await eventually(() => rows(page, 'peers').then((rows) => rows.map(([id]) => id)), ['0.0.1'], 'the list without the first');
  equal(page.trouble, [], 'trouble');
  await page.context().close();
});

await report.check('an-incomplete-text-of-metrics-is-not-shown', async () => {
  const page = await open(browser, dashboard(), {
    prepare: (page) => page.route('**/metrics', (route) => route.fulfill({ body: 'threadbare_server_connections 4\n' })),
  });
  await eventually(() => state(page), 'disconnected', 'the state');
  equal(await legend(page, 'connections'), ['WebSocket –', 'with HTTP –'], 'the connections');
  await page.context().close();
});

await report.check('keyboard-pauses-the-page-and-reaches-all-of-it', async () => {
  const page = await open(browser, dashboard());
  await isLive(page);
  let fetches = 0;
  page.on('request', (request) => (fetches += request.url().endsWith('/metrics') ? 1 : 0));
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute('aria-labelledby') || document.activeElement.textContent);
  const order = [];
  for (let i = 0; i < 6; i += 1) {
    await page.keyboard.press('Tab');
    order.push(await focused());
  }
  equal(order, ['Chat', 'Metrics', 'pause', 'closes-title', 'peers-title', 'Open the chat'], 'the order of the focus');
  await page.locator('#pause').focus();
  await page.keyboard.press('Space');
  equal(await page.locator('#pause').getAttribute('aria-pressed'), 'true', 'the button is pressed');
  equal([await state(page), await page.locator('#status').textContent()], ['paused', 'paused'], 'the state');
  fetches = 0;
  await page.waitForTimeout(2500); // more than two intervals
  equal(fetches, 0, 'the fetches meanwhile');
  await page.keyboard.press('Space');
  await isLive(page);
  equal(await page.locator('#pause').getAttribute('aria-pressed'), 'false', 'the button is pressed at last');
  equal(fetches > 0, true, 'there are fetches again');
  equal(page.trouble, [], 'trouble');
  await page.context().close();
});

await report.check('end-of-the-server-is-shown-and-a-new-one-is-found', async () => {
  const page = await open(browser, dashboard());
  await isLive(page);
  equal(await page.locator('#banner').isVisible(), false, 'the banner is visible at first');
  equal(await opacity(page, '#plots'), 1, 'the opacity at first');
  const before = await page.locator('#memory canvas').boundingBox();

  await server.stop();
  await eventually(() => state(page), 'disconnected', 'the state without a server');
  equal(/^The server is gone/.test(await page.locator('#banner').textContent()), true, 'the banner says so');
  equal(await page.locator('#banner').isVisible(), true, 'the banner is visible');
  equal(await legend(page, 'connections'), ['WebSocket –', 'with HTTP –'], 'the connections');
  await eventually(() => opacity(page, '#plots'), (value) => value < 0.6, 'the opacity');
  equal(await page.locator('#memory canvas').boundingBox(), before, 'the place of the plot');
  await screenshot(page, 'dashboard-disconnected');

  server = await start(binary, [server.host]);
  await eventually(() => state(page), 'connected', 'the state with a new server', 20);
  equal(await page.locator('#banner').isVisible(), false, 'the banner is visible at last');
  await eventually(() => opacity(page, '#plots'), 1, 'the opacity at last');
  await eventually(() => legend(page, 'messages'), ['in 0', 'out 0'], 'the messages a second');
  // The browser itself reports fetches that fail.
  equal(page.trouble.filter((text) => !/Failed to load resource: net::ERR_/.test(text)), [], 'trouble');
  await page.context().close();
}, 60);

await report.check('server-ends-in-order', async () => {
  await server.stop();
}, 15);

await browser.close();
report.exit();
