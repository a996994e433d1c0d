#!/usr/bin/env python3
"""Checks the `udp_feed` example, which sends each datagram to its sender and to every client.

    udp_feed.py BINARY        udp_feed.py target/release/examples/udp_feed
"""

import json
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


def connect(server, since=""):
    """A client, and what it is told of where its datagrams begin."""
    client = websockets.sync.client.connect(server.url + since, proxy=None, legacy=True)
    return client, json.loads(client.recv(timeout=5))


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
            for _ in range(3):
                client, told = connect(server)
                clients.append(client)
                expect_equal(told["missed"], 0, "what it has missed")
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
        with report.check("udp_feed/late-client-has-the-last-datagram", 15):
            late, told = connect(server)
            expect_equal(as_bytes(late.recv(timeout=5)), b"499", "the message")
            late.close()
        topic, number = told["position"].split("-")
        number = int(number) + 1  # it has that one
        with report.check("udp_feed/client-that-comes-back-is-told-what-it-missed", 15):
            for text in [b"one", b"two", b"three"]:
                sender.sendto(text, server.address("udp"))
                expect_equal(sender.recv(65536), text, "the datagram")
                for client in clients:
                    expect_equal(as_bytes(client.recv(timeout=5)), text, "the message")
            back, told = connect(server, f"/?since={topic}-{number}")
            expect_equal(told, {"position": f"{topic}-{number + 2}", "missed": 2}, "what it is told")
            expect_equal(as_bytes(back.recv(timeout=5)), b"three", "the message")
            back.close()
        with report.check("udp_feed/client-that-lacks-nothing-gets-nothing", 15):
            back, told = connect(server, f"/?since={topic}-{number + 3}")
            expect_equal(told, {"position": f"{topic}-{number + 3}", "missed": 0}, "what it is told")
            sender.sendto(b"four", server.address("udp"))
            for client in [back, *clients]:
                expect_equal(as_bytes(client.recv(timeout=5)), b"four", "the message")
            back.close()
        with report.check("udp_feed/slow-client-skips-and-is-told-how-many", 40):
            # Its library stops reading when one message waits.
            slow = websockets.sync.client.connect(server.url, proxy=None, legacy=True, max_queue=1)
            sent = 2000
            for number in range(sent):
                sender.sendto(b"%-8000d" % number, server.address("udp"))
                sender.recv(65536)
                for client in clients:
                    expect_equal(len(client.recv(timeout=5)), 8000, "the size of the message")
            received, missed = [], 0
            while not received or received[-1] != sent - 1 or missed + len(received) < sent:
                message = slow.recv(timeout=10)
                if isinstance(message, str):
                    missed += json.loads(message)["missed"]
                elif message != b"four":
                    received.append(int(message))
            expect_equal(received, sorted(set(received)), "what arrived, in order")
            expect_equal(len(received) + missed, sent, "what arrived and what was missed")
            expect(missed > 0, "nothing was missed")
            slow.close()
        with report.check("udp_feed/position-of-another-process-is-told", 15):
            back, told = connect(server, "/?since=0123456789abcdef-7")
            expect_equal(told["missed"], None, "what it has missed")
            expect_equal(int(back.recv(timeout=5)), sent - 1, "the message")
            back.close()
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
