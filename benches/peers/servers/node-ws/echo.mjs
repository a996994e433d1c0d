// Echo, or fan-out, with Node's `ws`, as its own examples do it.
//
//     node echo.mjs HOST:PORT [--broadcast] [--deflate [--level N]]

import { parseArgs } from 'node:util';
import { WebSocket, WebSocketServer } from 'ws';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    broadcast: { type: 'boolean' },
    deflate: { type: 'boolean' },
    level: { type: 'string' },
  },
});
const address = new URL(`ws://${positionals[0]}`);

// Everything is compressed, each message by itself if the client asks for that; how hard is zlib's default.
const perMessageDeflate = values.deflate
  ? { threshold: 0, zlibDeflateOptions: values.level ? { level: Number(values.level) } : {} }
  : false;

const server = new WebSocketServer({ host: address.hostname, port: Number(address.port), perMessageDeflate });
server.on('connection', (socket) => {
  socket.on('error', () => {}); // a client that has gone
  socket.on('message', (data, binary) => {
    for (const client of values.broadcast ? server.clients : [socket]) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
    }
  });
});
