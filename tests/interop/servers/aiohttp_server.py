#!/usr/bin/env python3
"""A server with the `aiohttp` package; see README.md.

It cannot send fragments. It accepts the parameters of compression that the client offers.
"""

import argparse
import asyncio
import json

from aiohttp import WSMsgType, web
from listening import add_tls_arguments, announce, listener, tls
from numbered import Numbered, SequenceCheck

PING_INTERVAL = 0.1
PONG_TIMEOUT = 60  # seconds; much may be queued before a pong
ends = {}


def end_of(token):
    """The future of the code and reason with which a client closes."""
    return ends.setdefault(token, asyncio.get_running_loop().create_future())


def send(ws, data):
    return ws.send_str(data) if isinstance(data, str) else ws.send_bytes(data)


class Connection:
    """A connection, whose pongs are queued, and which stores the client's close."""

    def __init__(self, ws):
        self.ws = ws
        self.pongs = asyncio.Queue()
        self.close = "none"

    async def messages(self):
        while True:
            message = await self.ws.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                yield message.data
            elif message.type is WSMsgType.PING:
                await self.ws.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self.pongs.put_nowait(bytes(message.data))
            else:
                if message.type is WSMsgType.CLOSE:
                    self.close = f"{message.data} {message.extra or ''}"
                return

    async def drain(self):
        async for message in self.messages():
            raise ConnectionError(f"unexpected message: {message!r:.80}")

    async def ping(self, payload):
        await self.ws.ping(payload)
        answer = await asyncio.wait_for(self.pongs.get(), PONG_TIMEOUT)
        if answer != payload:
            raise ConnectionError(f"a pong with {answer!r} for a ping with {payload!r}")


async def echo(connection, _query):
    async for message in connection.messages():
        await send(connection.ws, message)


async def pings(connection, _query):
    reading = asyncio.create_task(connection.drain())
    for payload in (b"", b"ping", b"p" * 125):
        await connection.ping(payload)
    await connection.ws.send_str("3 pongs")
    await reading


async def close(connection, query):
    await connection.ws.send_str("before")
    await connection.ws.close(code=int(query["code"]), message=query["reason"].encode())
    # The package does not report the reason of the answer.
    connection.close = f"{connection.ws.close_code} {query['reason']}"


async def end(connection, query):
    await connection.ws.send_str(await asyncio.wait_for(end_of(query["token"]), PONG_TIMEOUT))
    await connection.drain()


async def duplex(connection, query):
    numbered = Numbered(int(query["size"]))
    checked = SequenceCheck(numbered, "c")
    counts = {"sent": 0, "pings": 0, "pongs": 0}
    running = True

    async def flood():
        while running:
            await send(connection.ws, numbered.message("s", counts["sent"]))
            counts["sent"] += 1
            await asyncio.sleep(0)  # a send that does not wait does not yield to other tasks

    async def ping():
        while running:
            counts["pings"] += 1
            await connection.ping(b"%d" % counts["pings"])
            counts["pongs"] += 1
            await asyncio.sleep(PING_INTERVAL)

    async def finish():
        await asyncio.gather(*tasks)
        await connection.ws.send_str(json.dumps(counts | {"received": checked.count, "wrong": checked.wrong}))

    tasks = [asyncio.create_task(flood()), asyncio.create_task(ping())]
    finishing = None
    # The loop goes on after `end`, to receive the last pong.
    async for message in connection.messages():
        if message == "end":
            running = False
            finishing = asyncio.create_task(finish())
            continue
        checked.check(message)
        await send(connection.ws, message)
        await asyncio.sleep(0)
    running = False
    if finishing:
        await finishing


PATHS = {"/echo": echo, "/pings": pings, "/close": close, "/end": end, "/duplex": duplex}


async def handler(request, deflate):
    if request.path == "/refuse":
        return web.Response(status=401, text="no entry without a pass", headers={"WWW-Authenticate": "Bearer"})
    ws = web.WebSocketResponse(autoping=False, compress=deflate, max_msg_size=0, protocols=["numbers.v2"])
    if "X-Echo" in request.headers:
        ws.headers["X-Echo"] = request.headers["X-Echo"]
    await ws.prepare(request)
    connection = Connection(ws)
    await PATHS[request.path](connection, request.query)
    if request.path != "/end" and "token" in request.query:
        end_of(request.query["token"]).set_result(connection.close)
    return ws


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--deflate", choices=["off", "alone", "takeover"], required=True)
    add_tls_arguments(parser)
    arguments = parser.parse_args()
    context, deflate = tls(arguments), arguments.deflate != "off"
    application = web.Application()
    application.router.add_get("/{path}", lambda request: handler(request, deflate))
    runner = web.AppRunner(application)
    await runner.setup()
    await web.SockSite(runner, listener(), ssl_context=context).start()
    announce(context, runner.addresses[0][1])
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
