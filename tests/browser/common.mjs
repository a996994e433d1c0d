// What the browser tests share: named checks, the example as a child process, the browser.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const SCREENSHOTS = fileURLToPath(new URL('screenshots', import.meta.url));
const children = new Set();

/** Named checks: `ok NAME` or `FAIL NAME why`, each with a deadline. */
export class Report {
  #prefix;
  #passed = 0;
  #failed = 0;

  constructor(prefix) {
    this.#prefix = prefix;
  }

  async check(name, body, seconds = 20) {
    let timer;
    const overdue = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not done after ${seconds} s`)), seconds * 1000);
    });
    try {
      await Promise.race([body(), overdue]);
      this.#passed += 1;
      console.log(`ok ${this.#prefix}/${name}`);
    } catch (error) {
      this.#failed += 1;
      const why = String(error?.message ?? error).replace(/\s+/g, ' ').slice(0, 500);
      console.log(`FAIL ${this.#prefix}/${name} ${why}`);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the test: non-zero when a check failed, or when there was none. */
  exit() {
    if (this.#passed + this.#failed === 0) console.log(`FAIL ${this.#prefix}/no-check-ran nothing was checked`);
    for (const child of children) child.kill('SIGKILL');
    process.exit(this.#failed || !this.#passed ? 1 : 0);
  }
}

export function equal(got, wanted, what) {
  if (JSON.stringify(got) !== JSON.stringify(wanted)) {
    throw new Error(`${what}: got ${JSON.stringify(got)}, wanted ${JSON.stringify(wanted)}`);
  }
}

/** The flags of a server with the certificate in a directory that .ci/certificates made; none without a directory. */
export const certificate = (tls) => (tls ? ['--cert', `${tls}/cert.pem`, '--key', `${tls}/key.pem`] : []);

/** Starts an example; `urls` is what its `listening on` lines say, by scheme. */
export async function start(binary, args, schemes = ['ws']) {
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  child.once('exit', () => children.delete(child));
  const exited = once(child, 'exit'); // also the answer to `stop`
  const urls = {};
  const listening = (async () => {
    for await (const line of createInterface({ input: child.stdout })) {
      const found = line.match(/^listening on ((\w+):\/\/\S+:\d+)/);
      if (found) urls[found[2]] = new URL(found[1]);
      if (schemes.every((scheme) => urls[scheme])) return;
    }
    throw new Error(`${binary} ended before it listened`);
  })();
  let timer;
  const overdue = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${binary} does not listen after 10 s`)), 10_000);
  });
  await Promise.race([listening, overdue]);
  clearTimeout(timer);
  child.stdout.resume();
  const url = urls.ws ?? urls.wss;
  return {
    urls,
    url: `${url.protocol}//${url.host}`,
    host: url.host,
    page: `${url.protocol.replace('ws', 'http')}//${url.host}/`,
    async stop() {
      child.kill('SIGTERM');
      const [code, signal] = await exited;
      equal([code, signal], [0, null], 'the exit after SIGTERM');
    },
  };
}

/** A relay to a server, which can be cut, as a network can: what is open breaks, and nothing new opens. */
export async function relay(server) {
  const [host, port] = server.host.split(':');
  const ends = new Set();
  let isCut = false;
  const listener = createServer((near) => {
    if (isCut) return near.destroy();
    const far = connect(port, host);
    for (const [from, to] of [[near, far], [far, near]]) {
      ends.add(from);
      from.on('error', () => {});
      from.on('close', () => {
        ends.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const page = new URL(server.page);
  page.port = listener.address().port;
  return {
    page: page.href,
    cut() {
      isCut = true;
      for (const end of ends) end.destroy();
    },
    mend() {
      isCut = false;
    },
    close() {
      this.cut();
      listener.close();
    },
  };
}

/** What a page is looked at with: the options of `open`, by name. */
export const LOOKS = {
  'desktop-light': { colorScheme: 'light' },
  'desktop-dark': { colorScheme: 'dark' },
  'phone-light': { colorScheme: 'light', viewport: { width: 390, height: 844 }, isMobile: true, deviceScaleFactor: 2 },
};

/** A fresh headless Chromium with a profile of its own. It trusts the certificate in a directory that .ci/certificates made. */
export function launch(tls) {
  const trust = tls ? [`--ignore-certificate-errors-spki-list=${readFileSync(`${tls}/spki`, 'utf8').trim()}`] : [];
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...trust,
    ],
  });
}

/** A page in a context of its own. `trouble` collects what no page should cause. `prepare(page)` runs before it loads. */
export async function open(browser, url, { prepare = () => {}, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.trouble = [];
  page.on('pageerror', (error) => page.trouble.push(`exception: ${error.message}`));
  page.on('dialog', (dialog) => {
    page.trouble.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('console', (message) => {
    // A connection that failed is told by the browser itself, and some checks want it.
    if (message.type() === 'error' && !/WebSocket connection to/.test(message.text())) {
      page.trouble.push(`console: ${message.text()}`);
    }
  });
  page.on('request', (request) => {
    const { protocol, host } = new URL(request.url());
    if (protocol !== 'data:' && host !== new URL(url).host) page.trouble.push(`a request to ${request.url()}`);
  });
  await prepare(page);
  await page.goto(url);
  return page;
}

export async function screenshot(page, name) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: `${SCREENSHOTS}/${name}.png` });
}

/** Polls until `read` gives what is wanted; says what it gave at last when it never does. */
export async function eventually(read, wanted, what, seconds = 10) {
  const deadline = Date.now() + seconds * 1000;
  const test = typeof wanted === 'function' ? wanted : (got) => JSON.stringify(got) === JSON.stringify(wanted);
  for (;;) {
    const got = await read();
    if (test(got)) return got;
    if (Date.now() > deadline) {
      throw new Error(`${what}: still ${JSON.stringify(got)}, wanted ${wanted instanceof Function ? wanted : JSON.stringify(wanted)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The state that a page shows. */
export const state = (page) => page.locator('main').getAttribute('data-state');

/** The opacity of an element. */
export const opacity = (page, selector) => page.locator(selector).evaluate((node) => Number(getComputedStyle(node).opacity));

/** Nothing on the page is wider than the window. */
export async function fits(page) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (over > 0) throw new Error(`the page is ${over} pixels wider than the window`);
}
