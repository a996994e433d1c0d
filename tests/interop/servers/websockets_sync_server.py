#!/usr/bin/env python3
"""A server with the `websockets` package, its threading half; README.md says what it does."""

import argparse
import collections
import json
import queue
import threading
from urllib.parse import parse_qs, urlsplit

from listening import listener
from numbered import Numbered, Tally
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve
from websockets_options import OPTIONS, PATIENCE, compression, echo_header, refusal

PING_INTERVAL = 0.1
ends = collections.defaultdict(queue.Queue)  # what clients say when they close


def wait_for(pong):
    if not pong.wait(PATIENCE):
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


def pings(ws, _query):
    for payload in (b"", b"ping", b"p" * 125):
        wait_for(ws.ping(payload))
    ws.send("3 pongs")
    ws.wait_closed(PATIENCE)


def close(ws, query):
    ws.send("before")
    ws.close(int(query["code"]), query["reason"])


def end(ws, query):
    ws.send(ends[query["token"]].get(timeout=PATIENCE))
    ws.wait_closed(PATIENCE)


def duplex(ws, query):
    numbered = Numbered(int(query["size"]))
    tally = Tally(numbered, "c")
    told = {"sent": 0, "pings": 0, "pongs": 0}
    ended = threading.Event()

    def flood():
        while not ended.is_set():
            ws.send(numbered.message("s", told["sent"]))
            told["sent"] += 1

    def ping():
        while not ended.wait(PING_INTERVAL):
            pong = ws.ping()
            told["pings"] += 1
            wait_for(pong)
            told["pongs"] += 1

    threads = [threading.Thread(target=flood), threading.Thread(target=ping)]
    for thread in threads:
        thread.start()
    try:
        for message in ws:
            if message == "end":
                break
            tally.check(message)
            ws.send(message)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    ws.send(json.dumps(told | {"received": tally.count, "wrong": tally.wrong}))
    ws.wait_closed(PATIENCE)


PATHS = {"/echo": echo, "/fragments": fragments, "/pings": pings, "/close": close, "/end": end, "/duplex": duplex}


def handler(ws):
    url = urlsplit(ws.request.path)
    query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    try:
        PATHS[url.path](ws, query)
    except ConnectionClosed:
        pass  # the client closed in the middle of it, which `/end` tells
    if url.path != "/end" and "token" in query:
        ws.wait_closed(PATIENCE)
        received = ws.protocol.close_rcvd
        ends[query["token"]].put(f"{int(received.code)} {received.reason}" if received else "none")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--deflate", choices=["off", "alone", "takeover"], required=True)
    options = OPTIONS | compression(parser.parse_args().deflate)
    with serve(
        handler, sock=listener(), process_request=refusal, process_response=echo_header, **options
    ) as server:
        print(f"listening on ws://127.0.0.1:{server.socket.getsockname()[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
