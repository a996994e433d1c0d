#!/usr/bin/env node
// A server with Node's `ws` package; see README.md.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createPlainServer } from 'node:http';
import { createServer } from 'node:https';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { WebSocketServer } from 'ws';

import { Numbered, SequenceCheck } from './numbered.mjs';

const PING_INTERVAL = 100;
const PONG_TIMEOUT = 60_000; // milliseconds; much may be queued before a pong
const HIGH_WATER = 64 << 10;

/** The code and reason with which clients close: promises, with their resolvers. */
const ends = new Map();

function endOf(token) {
  if (!ends.has(token)) {
    const end = {};
    end.received = new Promise((resolve) => {
      end.resolve = resolve;
    });
    ends.set(token, end);
  }
  return ends.get(token);
}

/** Sends a ping and waits for its pong. */
async function ping(ws, payload) {
  const pong = once(ws, 'pong', { signal: AbortSignal.timeout(PONG_TIMEOUT) });
  ws.ping(payload);
  const [answer] = await pong;
  if (answer.toString() !== payload) throw new Error(`a pong with ${answer} for a ping with ${payload}`);
}

/** Returns a function that sends messages back, and pauses reading above the high-water mark. */
function sender(ws) {
  let waiting = 0;
  return (data, binary) => {
    waiting += data.length;
    if (waiting >= HIGH_WATER) ws.pause();
    ws.send(data, { binary }, () => {
      waiting -= data.length;
      if (ws.isPaused && waiting < HIGH_WATER) ws.resume();
    });
  };
}

function echo(ws) {
  ws.on('message', sender(ws));
}

function fragments(ws) {
  ws.on('message', async (data, binary) => {
    const options = { binary, fin: false };
    ws.send(data.subarray(0, 2), options);
    await ping(ws, 'between');
    ws.send(data.subarray(2, 500), options);
    ws.send(Buffer.alloc(0), options);
    ws.send(data.subarray(500), { binary, fin: true });
  });
}

async function pings(ws) {
  for (const payload of ['', 'ping', 'p'.repeat(125)]) await ping(ws, payload);
  ws.send('3 pongs');
}

function close(ws, query) {
  ws.send('before');
  ws.close(Number(query.get('code')), query.get('reason'));
}

async function end(ws, query) {
  ws.send(await endOf(query.get('token')).received);
}

function duplex(ws, query) {
  const numbered = new Numbered(Number(query.get('size')));
  const checked = new SequenceCheck(numbered, 'c');
  const counts = { sent: 0, pings: 0, pongs: 0 };
  const sendBack = sender(ws);
  const batch = Math.ceil(HIGH_WATER / numbered.size);
  let running = true;

  const flooding = (async () => {
    while (running) {
      const binary = counts.sent % 2 === 1;
      const message = numbered.message('s', counts.sent);
      counts.sent += 1;
      if (counts.sent % batch) {
        ws.send(message, { binary });
      } else {
        await new Promise((sent) => ws.send(message, { binary }, sent));
        await setImmediate(); // a send that does not wait does not yield to other callbacks
      }
    }
  })();
  const pinging = (async () => {
    while (running) {
      counts.pings += 1;
      await ping(ws, String(counts.pings));
      counts.pongs += 1;
      await setTimeout(PING_INTERVAL);
    }
  })();
  ws.on('close', () => {
    running = false;
  });
  ws.on('message', async (data, binary) => {
    if (!binary && data.equals(Buffer.from('end'))) {
      running = false;
      await Promise.all([flooding, pinging]);
      ws.send(JSON.stringify({ ...counts, received: checked.count, wrong: checked.wrong }));
      return;
    }
    checked.check(data, binary);
    sendBack(data, binary);
  });
}

const PATHS = { '/echo': echo, '/fragments': fragments, '/pings': pings, '/close': close, '/end': end, '/duplex': duplex };

const { values } = parseArgs({
  options: { deflate: { type: 'string' }, cert: { type: 'string' }, key: { type: 'string' } },
});
if (!['off', 'alone', 'takeover'].includes(values.deflate)) {
  console.error('usage: ws_server.mjs --deflate off|alone|takeover [--cert FILE --key FILE]');
  process.exit(2);
}
const alone = values.deflate === 'alone';
const compression = {
  serverNoContextTakeover: alone,
  clientNoContextTakeover: alone,
  threshold: 0,
  zlibDeflateOptions: { level: 1 },
};

const http = values.cert
  ? createServer({ cert: readFileSync(values.cert), key: readFileSync(values.key) })
  : createPlainServer();
const server = new WebSocketServer({
  server: http,
  perMessageDeflate: values.deflate !== 'off' && compression,
  handleProtocols: (offered) => offered.has('numbers.v2') && 'numbers.v2',
  verifyClient: ({ req }, decide) => {
    if (req.url === '/refuse') decide(false, 401, 'no entry without a pass', { 'WWW-Authenticate': 'Bearer' });
    else decide(true);
  },
});
server.on('headers', (headers, request) => {
  if (request.headers['x-echo']) headers.push(`X-Echo: ${request.headers['x-echo']}`);
});
server.on('connection', (ws, request) => {
  const { pathname, searchParams: query } = new URL(request.url, 'ws://127.0.0.1');
  ws.on('error', (error) => console.error(`${request.url}: ${error}`));
  ws.on('close', (code, reason) => {
    if (query.has('token') && pathname !== '/end') endOf(query.get('token')).resolve(`${code} ${reason}`);
  });
  PATHS[pathname](ws, query);
});
http.listen(0, '127.0.0.1', () => {
  console.log(`listening on ${values.cert ? 'wss://localhost' : 'ws://127.0.0.1'}:${http.address().port}`);
});
