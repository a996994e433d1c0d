#!/usr/bin/env node
// Checks an echo server with the `WebSocket` of Node's `undici`, which is the browsers' interface.
//
//     node undici.mjs ADDRESS [--ca FILE]        node undici.mjs wss://127.0.0.1:8080 --ca ca.pem
//
// With wss:// the client trusts the issuers in FILE, and nobody else. The server must accept messages of 16 MiB
// (`echo --max-message 16777216`).

import { Agent, WebSocket } from 'undici';

import { Messages, basicChecks, check as named, commandLine, echoOnAll, exit } from './checks.mjs';

// A page may close with these only.
const CLOSE_CODES = [1000, 3000, 4999];

const { url, ca } = commandLine();
const dispatcher = new Agent({ connect: { ca }, allowH2: false, webSocket: { maxPayloadSize: 32 << 20 } });
const check = (name, seconds, body) => named(`undici/${name}`, seconds, body);

class Client extends Messages {
  static async open() {
    const client = new Client();
    client.ws = new WebSocket(url, { dispatcher });
    client.ws.binaryType = 'arraybuffer';
    client.closed = new Promise((resolve) => client.ws.addEventListener('close', resolve));
    client.ws.addEventListener('message', ({ data }) => {
      client.deliver({ data: Buffer.from(data), binary: typeof data !== 'string' });
    });
    client.closed.then(({ code }) => client.fail(new Error(`closed with ${code}`)));
    await new Promise((resolve, reject) => {
      client.ws.addEventListener('open', resolve);
      client.ws.addEventListener('error', ({ error, message }) => {
        client.fail(new Error(message));
        reject(error ?? new Error(message));
      });
    });
    return client;
  }

  async close(code, reason) {
    this.ws.close(code, reason);
    const closed = await this.closed;
    if (closed.code !== code || !closed.wasClean) {
      throw new Error(`closed with ${code}, answered with ${closed.code}, clean: ${closed.wasClean}`);
    }
  }
}

await basicChecks(check, Client, CLOSE_CODES);

await check('200-connections-at-once', 60, async () => {
  const clients = await Promise.all(Array.from({ length: 200 }, () => Client.open()));
  await echoOnAll(clients);
});

exit();
