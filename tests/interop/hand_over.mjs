// Clients of the check that a server is handed over: half are idle, the others stream numbered messages and compare the echoes.
//
//     hand_over.mjs URL CLIENTS MESSAGES_PER_SECOND     reads `stop` from its input, and prints what it saw as JSON

import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const [url, clients, rate] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const seen = { echoes: 0, errors: [], longest: [] };
const sockets = [];
let stopping = false;

function open(number) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    const state = { socket, sent: 0, received: 0, longest: 0, last: 0, streams: number % 2 === 0 };
    socket.on('open', () => resolve(state));
    socket.on('error', (error) => {
      seen.errors.push(`client ${number}: ${error.message}`);
      reject(error);
    });
    socket.on('close', (code) => {
      if (!stopping) seen.errors.push(`client ${number}: closed with ${code}`);
    });
    socket.on('message', (data) => {
      const now = performance.now();
      if (state.last) state.longest = Math.max(state.longest, now - state.last);
      state.last = now;
      if (String(data) !== `${number} ${state.received}`) {
        seen.errors.push(`client ${number}: ${data} where ${state.received} was next`);
      }
      state.received += 1;
      seen.echoes += 1;
    });
    sockets.push(state);
  });
}

function send(state, number) {
  state.socket.send(`${number} ${state.sent}`);
  state.sent += 1;
}

for (let number = 0; number < clients; number += 1) await open(number);
console.log('open');
const timer = setInterval(() => {
  sockets.forEach((state, number) => {
    if (state.streams) send(state, number);
  });
}, 1000 / rate);

for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'stop') break;
}
clearInterval(timer);
// Every client, also the idle ones, has one more echo, and all that it was to get.
sockets.forEach(send);
const deadline = performance.now() + 20000;
while (sockets.some((state) => state.received < state.sent) && performance.now() < deadline && !seen.errors.length) {
  await new Promise((resolve) => setTimeout(resolve, 20));
}
sockets.forEach((state, number) => {
  if (state.received !== state.sent) seen.errors.push(`client ${number}: ${state.received} echoes of ${state.sent}`);
  if (state.streams) seen.longest.push(state.longest);
});
stopping = true;
sockets.forEach((state) => state.socket.close(1000));
console.log(JSON.stringify(seen));
process.exit(0);
