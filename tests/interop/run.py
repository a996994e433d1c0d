#!/usr/bin/env python3
"""Checks an echo server with Python's WebSocket clients.

    run.py ADDRESS [--ca FILE] [--stream] [CLIENT ...]        run.py ws://127.0.0.1:8080 aiohttp raw

With wss:// the clients trust the issuers in FILE, and nobody else. The server must accept messages of 16 MiB (`echo --max-message 16777216`).
With --stream it must send fragments back as they arrive (`echo --stream`), and only the clients that can take them so are run. They get no
larger messages than 1 MiB: a client that reads nothing while it sends, and a server that answers before the end, wait for each other.
"""

import argparse
import asyncio
import sys
import threading

import payloads
from clients import aiohttp_client, raw, trust, websocket_client, websockets_asyncio, websockets_sync
from process import exit_on_sigterm, raise_file_limit
from report import Report, expect, expect_equal

CLIENTS = [raw, websockets_sync, websockets_asyncio, websocket_client, aiohttp_client]


class OtherConnection(threading.Thread):
    """Echoes on a connection that other connections must not disturb."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.client = raw.Client(url, timeout=5)
        self.done = threading.Event()
        self.echoes = 0
        self.error = None

    def run(self):
        try:
            while not self.done.is_set():
                message = f"other {self.echoes} é"
                self.client.send(message)
                expect_equal(self.client.recv(), message, "the echo on the other connection")
                self.echoes += 1
        except Exception as error:
            self.error = error

    def finish(self):
        self.done.set()
        self.join(10)
        if self.error is not None:
            raise self.error
        expect(self.echoes >= 10, f"the other connection echoed only {self.echoes} times")
        expect_equal(self.client.close(1000), 1000, "the close of the other connection")


def echo_sizes(report, url, module, largest):
    for kind in ("text", "binary"):
        for size in (size for size in payloads.SIZES if size <= largest):
            with report.check(f"{module.Client.name}/echo-{kind}-{size}", 60):
                message = payloads.text(size) if kind == "text" else payloads.binary(size)
                client = module.Client(url, large=size > 1 << 20)
                client.send(message)
                expect_equal(client.recv(), message, "the echo")
                client.dispose()


def fragments(report, url, module):
    # The first fragment ends inside a character: only the whole message must be UTF-8 (RFC 6455 5.6).
    whole = payloads.text(1000).encode()
    cases = {
        "text": [whole[:2], whole[2:500], whole[500:]],
        "binary": [b"\x00\xff", payloads.binary(70_000), b""],
    }
    for kind, parts in cases.items():
        with report.check(f"{module.Client.name}/fragments-with-ping-{kind}"):
            client = module.Client(url)
            client.send_fragments(parts, kind == "text", b"between")
            wanted = b"".join(parts)
            expect_equal(client.recv(), wanted.decode() if kind == "text" else wanted, "the echo")
            expect_equal(client.close(1000), 1000, "the close")


def stream(report, url, module):
    # The parts end with characters, since no fragment of the server ends inside one.
    cases = {
        "text": [("ä" * count).encode() for count in (1, 500, 40_000, 3)],
        "binary": [b"\x00\xff", payloads.binary(70_000), b"\xff"],
    }
    for kind, parts in cases.items():
        with report.check(f"{module.Client.name}/stream-with-pings-{kind}"):
            client = module.Client(url)
            for _ in range(2):
                expect_equal(client.stream_back(parts, kind == "text", b"between"), b"".join(parts), "the echo")
            expect_equal(client.close(1000), 1000, "the close")


def pipelined(report, url, module):
    with report.check(f"{module.Client.name}/3000-pipelined", 60):
        client = module.Client(url)
        messages = []
        for number in range(3000):
            message = f"{number} " + "ä" * (number % 50)
            messages.append(message if number % 2 else message.encode())
        for message in messages:
            client.send(message)
        for number, message in enumerate(messages):
            expect_equal(client.recv(), message, f"message {number}")
        expect_equal(client.close(1000), 1000, "the close")


def close_codes(report, url, module):
    for code in payloads.CLOSE_CODES:
        name = f"{module.Client.name}/close-{code}"
        with report.check(name):
            client = module.Client(url)
            client.send("before")
            expect_equal(client.recv(), "before", "the echo")
            expect_equal(client.close(code, "grund: ü"), code, "the code of the answer")


def abrupt(report, url, module):
    with report.check(f"{module.Client.name}/200-abrupt-disconnects", 90):
        other = OtherConnection(url)
        other.start()
        for number in range(200):
            client = module.Client(url)
            if number % 3 == 0:
                client.send(b"x" * 20_000)  # its echo arrives at a closed socket
            client.abort(mid_frame=number % 2 == 1)
        other.finish()
        client = module.Client(url)
        client.send("after")
        expect_equal(client.recv(), "after", "the echo afterwards")
        expect_equal(client.close(1000), 1000, "the close afterwards")


def at_once(report, url):
    with report.check("websockets-asyncio/1000-connections-at-once", 120):
        raise_file_limit(4096)
        asyncio.run(asyncio.wait_for(websockets_asyncio.at_once(url, 1000), 110))


def main():
    exit_on_sigterm()
    known = {module.Client.name: module for module in CLIENTS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--ca", metavar="FILE")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("client", nargs="*", help=f"of {', '.join(known)}")
    options = parser.parse_intermixed_args()
    url = options.address
    if options.ca:
        trust.trust(options.ca)
    for name in options.client:
        if name not in known:
            sys.exit(f"no client {name}; there are {', '.join(known)}")
    report = Report()
    able = [module for module in CLIENTS if not options.stream or hasattr(module.Client, "stream_back")]
    for module in [known[name] for name in options.client] or able:
        echo_sizes(report, url, module, 1 << 20 if options.stream else max(payloads.SIZES))
        fragments(report, url, module)
        if options.stream:
            stream(report, url, module)
        pipelined(report, url, module)
        close_codes(report, url, module)
        abrupt(report, url, module)
        if module is websockets_asyncio:
            at_once(report, url)
    report.exit()


if __name__ == "__main__":
    main()
