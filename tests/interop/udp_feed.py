#!/usr/bin/env python3
"""Checks the `udp_feed` example, which sends each datagram to its sender and to every client.

    udp_feed.py BINARY        udp_feed.py target/release/examples/udp_feed
"""

import signal
import socket
import sys

import websockets.sync.client

import payloads
from process import Server, exit_on_sigterm
from report import Report, expect, expect_equal

DATAGRAMS = {
    "text": "höhe 12.5 m".encode(),
    "binary": bytes(range(256)),
    "large": payloads.binary(8192),
}


def as_bytes(message):
    return message.encode() if isinstance(message, str) else message


def main(binary):
    exit_on_sigterm()
    report = Report()
    with report.check("udp_feed/starts", 15):
        server = None
        server = Server(binary, "127.0.0.1:0", "--udp", "127.0.0.1:0", schemes=("ws", "udp"))
    if server is None:
        report.exit()
    with server:
        clients = []
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.settimeout(5)
        sender.bind(("127.0.0.1", 0))
        with report.check("udp_feed/clients-connect", 15):
            clients = [websockets.sync.client.connect(server.url, proxy=None, legacy=True) for _ in range(3)]
            # After a pong the connection receives broadcasts.
            for client in clients:
                expect(client.ping().wait(5), "no pong")
        for name, datagram in DATAGRAMS.items():
            with report.check(f"udp_feed/{name}-to-its-sender", 15):
                sender.sendto(datagram, server.address("udp"))
                expect_equal(sender.recv(65536), datagram, "the datagram")
            with report.check(f"udp_feed/{name}-to-every-client", 15):
                expect(clients, "no client is connected")
                for client in clients:
                    expect_equal(as_bytes(client.recv(timeout=5)), datagram, "the message")
        with report.check("udp_feed/500-in-order", 30):
            expect(clients, "no client is connected")
            for number in range(500):
                sender.sendto(b"%d" % number, server.address("udp"))
                expect_equal(sender.recv(65536), b"%d" % number, "the datagram")
            for client in clients:
                for number in range(500):
                    expect_equal(as_bytes(client.recv(timeout=5)), b"%d" % number, "the message")
        with report.check("udp_feed/one-disconnects-the-others-stay-connected", 15):
            clients.pop().close()
            sender.sendto(b"after", server.address("udp"))
            for client in clients:
                expect_equal(as_bytes(client.recv(timeout=5)), b"after", "the message")
        with report.check("udp_feed/graceful", 15):
            server.signal(signal.SIGTERM)
            expect_equal(server.wait(10), 0, "the exit status")
            for client in clients:
                client.wait_closed(5)
                received = client.protocol.close_rcvd
                expect(received is not None and received.code == 1001, f"closed with {received}")
    report.exit()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
