"""Receives a feed with Python's websockets, as the clients in Rust do: feed.py ADDR SIZE FIRST [--root FILE] [--deflate]"""

import argparse
import asyncio
import ssl

from websockets.asyncio.client import connect

parser = argparse.ArgumentParser()
parser.add_argument("addr")
parser.add_argument("size", type=int)
parser.add_argument("first")
parser.add_argument("--root")
parser.add_argument("--deflate", action="store_true")
options = parser.parse_args()


async def receive():
    tls = {}
    if options.root:
        tls = {"ssl": ssl.create_default_context(cafile=options.root), "server_hostname": "localhost"}
    compression = "deflate" if options.deflate else None
    url = f"{'wss' if options.root else 'ws'}://{options.addr}/feed"
    count = 0
    async with connect(url, compression=compression, ping_interval=None, proxy=None, **tls) as socket:
        async for message in socket:
            if len(message) == options.size and message[0] == options.first:
                count += 1
            elif message == "end":
                await socket.send(str(count))
                count = 0
            else:
                raise SystemExit(f"a message of {len(message)} characters, and {options.size} were expected")


asyncio.run(receive())
