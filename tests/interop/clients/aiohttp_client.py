"""A client with the `aiohttp` package, whose event loop runs during each call."""

import asyncio

import aiohttp

from clients import raw
from clients.trust import context


class Client:
    name = "aiohttp"

    def __init__(self, url, large=False):
        self.loop = asyncio.new_event_loop()
        self._run(self._open(url))

    async def _open(self, url):
        self.session = aiohttp.ClientSession()
        self.ws = await self.session.ws_connect(url, max_msg_size=0, autoping=False, ssl=context(url) or True)

    def _run(self, step):
        return self.loop.run_until_complete(asyncio.wait_for(step, 20))

    def send(self, data):
        self._run(self.ws.send_str(data) if isinstance(data, str) else self.ws.send_bytes(data))

    def recv(self):
        while True:
            message = self._run(self.ws.receive())
            if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return message.data
            if message.type is aiohttp.WSMsgType.PING:
                self._run(self.ws.pong(message.data))
            elif message.type is not aiohttp.WSMsgType.PONG:
                raise ConnectionError(f"wanted a message, got {message}")

    def send_fragments(self, parts, text, ping):
        # The package always sets FIN, so the frames are written to its transport.
        transport = self.ws._response.connection.transport
        transport.write(raw.frame(raw.TEXT if text else raw.BINARY, parts[0], fin=False))
        self._run(self.ws.ping(ping))
        message = self._run(self.ws.receive())
        if message.type is not aiohttp.WSMsgType.PONG or bytes(message.data) != ping:
            raise ConnectionError(f"wanted the pong, got {message}")
        for number, part in enumerate(parts[1:], 2):
            transport.write(raw.frame(0, part, fin=number == len(parts)))

    def close(self, code, reason=""):
        self._run(self.ws.close(code=code, message=reason.encode()))
        answered = self.ws.close_code
        self._end()
        return answered

    def wait_closed(self):
        message = self._run(self.ws.receive())
        if message.type is not aiohttp.WSMsgType.CLOSE:
            raise ConnectionError(f"wanted the close, got {message}")
        return message.data

    def abort(self, mid_frame):
        transport = self.ws._response.connection.transport
        if mid_frame:
            transport.write(raw.half_a_frame())
            transport.close()
        else:
            raw.reset(transport.get_extra_info("socket"))
            transport.abort()
        self._end()

    def dispose(self):
        self._end()

    def _end(self):
        self._run(self.session.close())
        self._run(asyncio.sleep(0))
        self.loop.close()
