#!/usr/bin/env python3
"""Checks that a signal shuts a server down gracefully: close code 1001 to every client, then exit status 0.

    graceful.py BINARY [FLAG ...]        graceful.py target/release/examples/echo --channel
"""

import signal
import sys
import time

from clients import aiohttp_client, raw, websocket_client, websockets_asyncio, websockets_sync
from process import Server, exit_on_sigterm
from report import Report, expect, expect_equal

LIBRARIES = [websockets_sync, websockets_asyncio, websocket_client, aiohttp_client]


def main(binary, *flags):
    exit_on_sigterm()
    report = Report()
    label = " ".join(flags).replace("--", "").replace(" ", "-") or "handler"
    for number in (signal.SIGTERM, signal.SIGINT):
        for module in [raw, *LIBRARIES]:
            with report.check(f"graceful/{label}/{number.name}-{module.Client.name}", 40):
                with Server(binary, "127.0.0.1:0", *flags) as server:
                    one_client(server, number, module)
        with report.check(f"graceful/{label}/{number.name}-silent-peers", 40):
            with Server(binary, "127.0.0.1:0", *flags) as server:
                silent_clients(server, number)
        with report.check(f"graceful/{label}/{number.name}-no-peers", 40):
            with Server(binary, "127.0.0.1:0", *flags) as server:
                server.signal(number)
                expect_equal(server.wait(10), 0, "the exit status")
    with report.check(f"graceful/{label}/same-port-at-once", 60):
        restart_on_same_port(binary, flags)
    report.exit()


def one_client(server, number, module):
    """A client receives 1001 and answers, and the server exits."""
    client = module.Client(server.url)
    client.send("before")
    expect_equal(client.recv(), "before", "the echo")
    server.signal(number)
    answer_going_away(client)
    expect_equal(server.wait(10), 0, "the exit status")


def answer_going_away(client):
    """The client receives 1001 and answers, as most libraries do by themselves; the server then closes TCP."""
    expect_equal(client.wait_closed(), 1001, "the close code")
    if isinstance(client, raw.Client):
        client.socket.sendall(raw.frame(raw.CLOSE, b"\x03\xe9"))
        expect_equal(client.socket.recv(1), b"", "the end of the TCP connection")
    elif isinstance(client, websocket_client.Client):
        client.ws.send_close(1001)
    client.dispose()


def silent_clients(server, number):
    """The server exits though clients do not answer the close frame, and one does not complete its request."""
    clients = [raw.Client(server.url) for _ in range(20)]
    half = raw.socket.create_connection(server.address())
    half.sendall(b"GET / HTTP/1.1\r\nHost: ")
    start = time.monotonic()
    server.signal(number)
    for client in clients:
        expect_equal(client.wait_closed(), 1001, "the close code")
    expect_equal(server.wait(10), 0, "the exit status")
    expect(time.monotonic() - start < 10, "the server took 10 s or more")
    half.close()
    for client in clients:
        client.dispose()


def restart_on_same_port(binary, flags):
    """The port can be bound again at once, though it has connections in TIME_WAIT."""
    with Server(binary, "127.0.0.1:0", *flags) as server:
        address = "%s:%d" % server.address()
        client = raw.Client(server.url)
        server.signal(signal.SIGTERM)
        answer_going_away(client)
        expect_equal(server.wait(10), 0, "the exit status")
    for _ in range(3):
        with Server(binary, address, *flags) as server:
            expect_equal("%s:%d" % server.address(), address, "the address")
            client = raw.Client(server.url)
            client.send("again")
            expect_equal(client.recv(), "again", "the echo")
            server.signal(signal.SIGTERM)
            answer_going_away(client)
            expect_equal(server.wait(10), 0, "the exit status")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
