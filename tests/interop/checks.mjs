// What the checks with Node's clients share: the command line, named checks, and payloads.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

export const SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 16 << 20];

/** The address of the server, and the certificates of the issuers that are trusted. */
export function commandLine() {
  const { values, positionals } = parseArgs({ options: { ca: { type: 'string' } }, allowPositionals: true });
  if (positionals.length !== 1) {
    console.error(`usage: ${process.argv[1]} ADDRESS [--ca FILE]`);
    process.exit(2);
  }
  return { url: positionals[0], ca: values.ca && readFileSync(values.ca) };
}

let passed = 0;
let failed = 0;

/** Runs `body` as a named check, which fails by an exception or after `seconds`. */
export async function check(name, seconds, body) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${seconds} s`)), seconds * 1000);
  });
  try {
    await Promise.race([body(), timeout]);
    passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name} ${String(error?.message ?? error).replace(/\s+/g, ' ').slice(0, 500)}`);
  } finally {
    clearTimeout(timer);
  }
}

/** Ends the process, with status 1 if a check failed or none ran. */
export function exit() {
  if (passed + failed === 0) console.log('FAIL no-check-ran nothing was checked');
  process.exit(failed || !passed ? 1 : 0);
}

/** The messages of a connection, which can be awaited in order. */
export class Messages {
  #messages = [];
  #waiting = [];
  #error = null;

  deliver(message) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting.resolve(message);
    else this.#messages.push(message);
  }

  fail(error) {
    this.#error ??= error;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
  }

  recv() {
    if (this.#messages.length) return Promise.resolve(this.#messages.shift());
    if (this.#error) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Waits for a message and compares its type and bytes. */
  async expect(wanted, what) {
    const { data, binary } = await this.recv();
    if (binary !== (typeof wanted !== 'string')) throw new Error(`${what}: binary is ${binary}`);
    if (!Buffer.from(wanted).equals(data)) {
      throw new Error(`${what}: got ${data.length} bytes, wanted ${Buffer.byteLength(wanted)}, or other bytes`);
    }
  }
}

/** A text of exactly `size` bytes in UTF-8, with characters of every length. */
export function text(size) {
  const pattern = 'aé€😀';
  let result = pattern.repeat(Math.floor(size / 10)) + 'é'.repeat(Math.floor((size % 10) / 2));
  result += 'z'.repeat(size - Buffer.byteLength(result));
  return result;
}

export function binary(size) {
  const result = Buffer.alloc(size);
  for (let i = 0; i < size; i += 1) result[i] = (i * 7 + (i >> 8) * 13 + (i >> 16)) & 0xff;
  return result;
}

/** 3,000 messages, of which every second is binary. */
export function many() {
  return Array.from({ length: 3000 }, (_, number) => {
    const message = `${number} ${'ä'.repeat(number % 50)}`;
    return number % 2 ? message : Buffer.from(message);
  });
}

/** The checks that every client can do. `Client` has `open`, a `ws` that sends, `expect` and `close`. */
export async function basicChecks(check, Client, closeCodes) {
  for (const kind of ['text', 'binary']) {
    for (const size of SIZES) {
      await check(`echo-${kind}-${size}`, 60, async () => {
        const message = kind === 'text' ? text(size) : binary(size);
        const client = await Client.open();
        client.ws.send(message);
        await client.expect(message, 'the echo');
        await client.close(1000);
      });
    }
  }

  await check('3000-pipelined', 60, async () => {
    const client = await Client.open();
    const messages = many();
    for (const message of messages) client.ws.send(message);
    for (const [number, message] of messages.entries()) await client.expect(message, `message ${number}`);
    await client.close(1000);
  });

  for (const code of closeCodes) {
    await check(`close-${code}`, 30, async () => {
      const client = await Client.open();
      client.ws.send('before');
      await client.expect('before', 'the echo');
      await client.close(code, 'grund: ü');
    });
  }
}

/** Has each of the connections echo a message of its own, and closes them all. */
export async function echoOnAll(clients) {
  await Promise.all(
    clients.map(async (client, number) => {
      client.ws.send(`connection ${number}`);
      await client.expect(`connection ${number}`, `connection ${number}`);
    }),
  );
  await Promise.all(clients.map((client) => client.close(1000)));
}
