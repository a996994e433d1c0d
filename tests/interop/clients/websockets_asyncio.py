"""A client with the asyncio API of the `websockets` package, whose event loop runs during each call."""

import asyncio

import websockets.asyncio.client
import websockets.exceptions

from clients import raw
from clients.trust import context


class Client:
    name = "websockets-asyncio"

    def __init__(self, url, large=False):
        self.loop = asyncio.new_event_loop()
        connecting = websockets.asyncio.client.connect(url, max_size=None, proxy=None, ssl=context(url))
        self.ws = self._run(connecting.__aenter__())

    def _run(self, step):
        return self.loop.run_until_complete(asyncio.wait_for(step, 20))

    def send(self, data):
        self._run(self.ws.send(data))

    def recv(self):
        return self._run(self.ws.recv())

    def send_fragments(self, parts, text, ping):
        async def fragments():
            yield parts[0]
            await asyncio.wait_for(await self.ws.ping(ping), 10)
            for part in parts[1:]:
                yield part

        self._run(self.ws.send(fragments(), text=text))

    def stream_back(self, parts, text, ping):
        """Sends a message in these parts, each when the one before has come back, and returns what comes back."""
        return self._run(self._stream_back(parts, text, ping))

    async def _stream_back(self, parts, text, ping):
        fragments = aiter(self.ws.recv_streaming(decode=False))
        received = b""

        async def pieces():
            nonlocal received
            sent = 0
            for part in parts:
                yield part
                await asyncio.wait_for(await self.ws.ping(ping), 10)
                sent += len(part)
                while len(received) < sent:
                    received += await anext(fragments)

        await self.ws.send(pieces(), text=text)
        return received + b"".join([fragment async for fragment in fragments])

    def close(self, code, reason=""):
        self._run(self.ws.close(code, reason))
        answered = self._answered()
        self.loop.close()
        return answered

    def wait_closed(self):
        try:
            self.recv()
        except websockets.exceptions.ConnectionClosed:
            return self._answered()
        raise ConnectionError("a message instead of the close")

    def _answered(self):
        received = self.ws.protocol.close_rcvd
        return None if received is None else int(received.code)

    def abort(self, mid_frame):
        transport = self.ws.transport
        if mid_frame:
            transport.write(raw.half_a_frame())
            transport.close()
        else:
            raw.reset(transport.get_extra_info("socket"))
            transport.abort()
        self.dispose()

    def dispose(self):
        self.ws.transport.abort()
        self._run(self.ws.wait_closed())
        self.loop.close()


async def at_once(url, count):
    """Opens `count` connections, sends on each while all are open, and closes them."""
    handshakes = asyncio.Semaphore(250)  # the number of opening handshakes at one time

    async def open_one():
        async with handshakes:
            return await websockets.asyncio.client.connect(
                url, open_timeout=60, ping_interval=None, proxy=None, ssl=context(url)
            )

    clients = await asyncio.gather(*(open_one() for _ in range(count)))

    async def use(number, ws):
        message = f"connection {number}"
        await ws.send(message)
        answer = await asyncio.wait_for(ws.recv(), 30)
        if answer != message:
            raise AssertionError(f"connection {number} got {answer!r}")

    await asyncio.gather(*(use(number, ws) for number, ws in enumerate(clients)))
    await asyncio.gather(*(ws.close() for ws in clients))
    wrong = [ws.protocol.close_rcvd for ws in clients if ws.close_code != 1000]
    if wrong:
        raise AssertionError(f"{len(wrong)} not closed with 1000, the first with {wrong[0]}")
