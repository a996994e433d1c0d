#!/usr/bin/env node
// Checks an echo server with Node's `ws` client.
//
//     node run.mjs ADDRESS [--ca FILE]        node run.mjs ws://127.0.0.1:8080
//
// With wss:// the client trusts the issuers in FILE, and nobody else. The server must accept messages of 16 MiB
// (`echo --max-message 16777216`).

import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import WebSocket from 'ws';

import { Messages, basicChecks, binary, check as named, commandLine, echoOnAll, exit, text } from './checks.mjs';

const CLOSE_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999];
const MAX = 32 << 20;

const { url, ca } = commandLine();
const check = (name, seconds, body) => named(`ws/${name}`, seconds, body);

/** A connection of which messages can be awaited in order. */
class Client extends Messages {
  static async open() {
    const client = new Client();
    // A socket with TLS over it can not be reset, and the one below can.
    const createConnection = (options) => {
      client.tcp = connectTcp(options);
      if (!url.startsWith('wss:')) return client.tcp;
      client.tcp.setNoDelay(true);
      return connectTls({ ...options, socket: client.tcp });
    };
    client.ws = new WebSocket(url, { maxPayload: MAX, ca, createConnection });
    client.closed = new Promise((resolve) => client.ws.on('close', (code) => resolve(code)));
    client.ws.on('message', (data, binary) => client.deliver({ data, binary }));
    client.ws.on('error', (error) => client.fail(error));
    client.closed.then((code) => client.fail(new Error(`closed with ${code}`)));
    await new Promise((resolve, reject) => {
      client.ws.once('open', resolve);
      client.ws.once('error', reject);
    });
    return client;
  }

  async close(code, reason) {
    this.ws.close(code, reason);
    const answered = await this.closed;
    if (answered !== code) throw new Error(`closed with ${code}, answered with ${answered}`);
  }
}

await basicChecks(check, Client, CLOSE_CODES);

const whole = Buffer.from(text(1000));
const fragments = {
  // The first fragment ends inside a character: only the whole message must be UTF-8 (RFC 6455 5.6).
  text: [whole.subarray(0, 2), whole.subarray(2, 500), whole.subarray(500)],
  binary: [Buffer.from([0, 255]), binary(70_000), Buffer.alloc(0)],
};
for (const [kind, parts] of Object.entries(fragments)) {
  await check(`fragments-with-ping-${kind}`, 30, async () => {
    const client = await Client.open();
    const options = { binary: kind === 'binary', fin: false };
    client.ws.send(parts[0], options);
    client.ws.ping('between');
    const [payload] = await once(client.ws, 'pong'); // before the message is complete
    if (payload.toString() !== 'between') throw new Error(`the pong says ${payload}`);
    client.ws.send(parts[1], options);
    client.ws.send(parts[2], { ...options, fin: true });
    const message = Buffer.concat(parts);
    await client.expect(kind === 'text' ? message.toString() : message, 'the echo');
    await client.close(1000);
  });
}

await check('1000-connections-at-once', 120, async () => {
  const clients = [];
  for (let opened = 0; opened < 1000; opened += 250) {
    clients.push(...(await Promise.all(Array.from({ length: 250 }, () => Client.open()))));
  }
  await echoOnAll(clients);
});

await check('200-abrupt-disconnects', 90, async () => {
  const other = await Client.open();
  let running = true;
  let echoes = 0;
  const echoing = (async () => {
    for (; running; echoes += 1) {
      other.ws.send(`other ${echoes} é`);
      await other.expect(`other ${echoes} é`, 'the echo on the other connection');
    }
  })();
  echoing.catch(() => {}); // the error is thrown where it is awaited
  for (let number = 0; number < 200; number += 1) {
    const client = await Client.open();
    const socket = client.ws._socket;
    if (number % 3 === 0) client.ws.send(binary(20_000)); // its echo arrives at a closed socket
    if (number % 2) {
      // The header of a masked frame of 1,000 bytes and a part of its payload, then a FIN.
      socket.write(Buffer.concat([Buffer.from([0x82, 0xfe, 0x03, 0xe8, 1, 2, 3, 4]), binary(400)]));
      socket.destroySoon();
    } else {
      client.tcp.resetAndDestroy();
    }
    await client.closed;
  }
  running = false;
  await echoing;
  if (echoes < 10) throw new Error(`the other connection echoed only ${echoes} times`);
  await other.close(1000);
  const client = await Client.open();
  client.ws.send('after');
  await client.expect('after', 'the echo afterwards');
  await client.close(1000);
});

exit();
