#!/usr/bin/env python3
"""A server with the threading API of the `websockets` package; see README.md."""

import argparse
import collections
import json
import queue
import threading
from urllib.parse import parse_qs, urlsplit

from listening import add_tls_arguments, announce, listener, tls
from numbered import Numbered, SequenceCheck
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve
from websockets_options import OPTIONS, PONG_TIMEOUT, compression, echo_header, refusal

PING_INTERVAL = 0.1
ends = collections.defaultdict(queue.Queue)  # the code and reason with which clients close


def wait_for(pong):
    if not pong.wait(PONG_TIMEOUT):
        raise TimeoutError("no pong")


def echo(ws, _query):
    for message in ws:
        ws.send(message)


def fragments(ws, _query):
    for message in ws:
        text = isinstance(message, str)
        whole = message.encode() if text else message

        def pieces():
            yield whole[:2]
            wait_for(ws.ping(b"between"))
            yield whole[2:500]
            yield b""
            yield whole[500:]

        ws.send(pieces(), text=text)


def stream(ws, _query):
    while True:

        def pieces():
            fragments = ws.recv_streaming()
            yield next(fragments)
            wait_for(ws.ping(b"between"))
            yield from fragments

        ws.send(pieces())


def pings(ws, _query):
    for payload in (b"", b"ping", b"p" * 125):
        wait_for(ws.ping(payload))
    ws.send("3 pongs")
    ws.wait_closed(PONG_TIMEOUT)


def close(ws, query):
    ws.send("before")
    ws.close(int(query["code"]), query["reason"])


def end(ws, query):
    ws.send(ends[query["token"]].get(timeout=PONG_TIMEOUT))
    ws.wait_closed(PONG_TIMEOUT)


def duplex(ws, query):
    numbered = Numbered(int(query["size"]))
    checked = SequenceCheck(numbered, "c")
    counts = {"sent": 0, "pings": 0, "pongs": 0}
    ended = threading.Event()

    def flood():
        while not ended.is_set():
            ws.send(numbered.message("s", counts["sent"]))
            counts["sent"] += 1

    def ping():
        while not ended.wait(PING_INTERVAL):
            pong = ws.ping()
            counts["pings"] += 1
            wait_for(pong)
            counts["pongs"] += 1

    threads = [threading.Thread(target=flood), threading.Thread(target=ping)]
    for thread in threads:
        thread.start()
    try:
        for message in ws:
            if message == "end":
                break
            checked.check(message)
            ws.send(message)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    ws.send(json.dumps(counts | {"received": checked.count, "wrong": checked.wrong}))
    ws.wait_closed(PONG_TIMEOUT)


PATHS = {"/echo": echo, "/fragments": fragments, "/stream": stream, "/pings": pings, "/close": close, "/end": end, "/duplex": duplex}


def handler(ws):
    url = urlsplit(ws.request.path)
    query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    try:
        PATHS[url.path](ws, query)
    except ConnectionClosed:
        pass  # the client closed; `/end` reports it
    if url.path != "/end" and "token" in query:
        ws.wait_closed(PONG_TIMEOUT)
        received = ws.protocol.close_rcvd
        ends[query["token"]].put(f"{int(received.code)} {received.reason}" if received else "none")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--deflate", choices=["off", "alone", "takeover"], required=True)
    add_tls_arguments(parser)
    arguments = parser.parse_args()
    context = tls(arguments)
    options = OPTIONS | compression(arguments.deflate)
    with serve(
        handler, sock=listener(), process_request=refusal, process_response=echo_header, ssl=context, **options
    ) as server:
        announce(context, server.socket.getsockname()[1])
        server.serve_forever()


if __name__ == "__main__":
    main()
