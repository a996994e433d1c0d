#!/usr/bin/env python3
"""A server with the asyncio API of the `websockets` package; see README.md."""

import argparse
import asyncio
import json
from urllib.parse import parse_qs, urlsplit

from listening import add_tls_arguments, announce, listener, tls
from numbered import Numbered, SequenceCheck
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets_options import OPTIONS, PONG_TIMEOUT, compression, echo_header, refusal

PING_INTERVAL = 0.1
ends = {}


def end_of(token):
    """The future of the code and reason with which a client closes."""
    return ends.setdefault(token, asyncio.get_running_loop().create_future())


async def echo(ws, _query):
    async for message in ws:
        await ws.send(message)


async def fragments(ws, _query):
    async for message in ws:
        text = isinstance(message, str)
        whole = message.encode() if text else message

        async def pieces():
            yield whole[:2]
            await asyncio.wait_for(await ws.ping(b"between"), PONG_TIMEOUT)
            yield whole[2:500]
            yield b""
            yield whole[500:]

        await ws.send(pieces(), text=text)


async def stream(ws, _query):
    while True:

        async def pieces():
            is_first = True
            async for fragment in ws.recv_streaming():
                yield fragment
                if is_first:
                    await asyncio.wait_for(await ws.ping(b"between"), PONG_TIMEOUT)
                    is_first = False

        await ws.send(pieces())


async def pings(ws, _query):
    for payload in (b"", b"ping", b"p" * 125):
        await asyncio.wait_for(await ws.ping(payload), PONG_TIMEOUT)
    await ws.send("3 pongs")
    await ws.wait_closed()


async def close(ws, query):
    await ws.send("before")
    await ws.close(int(query["code"]), query["reason"])


async def end(ws, query):
    await ws.send(await asyncio.wait_for(end_of(query["token"]), PONG_TIMEOUT))
    await ws.wait_closed()


async def duplex(ws, query):
    numbered = Numbered(int(query["size"]))
    checked = SequenceCheck(numbered, "c")
    counts = {"sent": 0, "pings": 0, "pongs": 0}
    running = True

    async def flood():
        while running:
            await ws.send(numbered.message("s", counts["sent"]))
            counts["sent"] += 1
            await asyncio.sleep(0)  # a send that does not wait does not yield to other tasks

    async def ping():
        while running:
            pong = await ws.ping()
            counts["pings"] += 1
            await asyncio.wait_for(pong, PONG_TIMEOUT)
            counts["pongs"] += 1
            await asyncio.sleep(PING_INTERVAL)

    tasks = [asyncio.create_task(flood()), asyncio.create_task(ping())]
    async for message in ws:
        if message == "end":
            break
        checked.check(message)
        await ws.send(message)
        await asyncio.sleep(0)
    running = False
    await asyncio.gather(*tasks)
    await ws.send(json.dumps(counts | {"received": checked.count, "wrong": checked.wrong}))
    await ws.wait_closed()


PATHS = {"/echo": echo, "/fragments": fragments, "/stream": stream, "/pings": pings, "/close": close, "/end": end, "/duplex": duplex}


async def handler(ws):
    url = urlsplit(ws.request.path)
    query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    try:
        await PATHS[url.path](ws, query)
    except ConnectionClosed:
        pass  # the client closed; `/end` reports it
    if url.path != "/end" and "token" in query:
        await ws.wait_closed()
        received = ws.protocol.close_rcvd
        end_of(query["token"]).set_result(f"{int(received.code)} {received.reason}" if received else "none")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--deflate", choices=["off", "alone", "takeover"], required=True)
    add_tls_arguments(parser)
    arguments = parser.parse_args()
    context = tls(arguments)
    options = OPTIONS | compression(arguments.deflate)
    async with serve(
        handler, sock=listener(), process_request=refusal, process_response=echo_header, ssl=context, **options
    ) as server:
        announce(context, server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
