// Echo, or broadcast, with Node's `ws`, as its own examples do it.
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

// Every message is compressed, without context takeover if the client asks for that. The level is zlib's default.
const perMessageDeflate = values.deflate
  ? { threshold: 0, zlibDeflateOptions: values.level ? { level: Number(values.level) } : {} }
  : false;

const server = new WebSocketServer({ host: address.hostname, port: Number(address.port), perMessageDeflate });
server.on('connection', (socket) => {
  socket.on('error', () => {}); // the client has gone
  socket.on('message', (data, binary) => {
    for (const client of values.broadcast ? server.clients : [socket]) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
    }
  });
});
