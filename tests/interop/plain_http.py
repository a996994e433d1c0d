#!/usr/bin/env python3
"""Plain HTTP of the example `chat`, as curl, Python's http.client and aiohttp speak it: connections that stay open, content of
every kind, refusals that arrive, and a WebSocket connection behind all that.

usage: plain_http.py CHAT        exit code 0: all is as it should be
"""

import asyncio
import http.client
import subprocess
import sys

import aiohttp

from process import Server

LIMIT = 64 << 10  # of the content of a request


def check(what, seen, wanted):
    name = "plain-http/" + what.replace(": ", "/").replace(", ", "-").replace(" ", "-")
    if seen != wanted:
        sys.exit(f"FAIL {name}: {seen!r}, not {wanted!r}")
    print("ok", name)


def with_http_client(server):
    connection = http.client.HTTPConnection(*server.address(), timeout=10)
    ports, statuses = set(), []

    def ask(method, target, **content):
        connection.request(method, target, **content)
        ports.add(connection.sock.getsockname()[1])
        response = connection.getresponse()
        statuses.append(response.status)
        return response.read()

    page = ask("GET", "/")
    ask("HEAD", "/")
    ask("GET", "/nothing")
    ask("POST", "/", body=b"x" * LIMIT)
    ask("PUT", "/", body=iter([b"some ", b"chunks"]), encode_chunked=True)
    check("http.client: the page again", ask("GET", "/"), page)
    check("http.client: statuses", statuses, [200, 200, 404, 405, 405, 200])
    check("http.client: connections", len(ports), 1)
    for size in [LIMIT + 1, 8 * LIMIT]:
        connection = http.client.HTTPConnection(*server.address(), timeout=10)
        connection.request("POST", "/", body=b"x" * size)
        check(f"http.client: {size} bytes", connection.getresponse().status, 413)


def with_curl(server):
    host, port = server.address()
    url = f"http://{host}:{port}"

    def curl(*arguments, content=None):
        command = ["curl", "--noproxy", "*", "--silent", "--show-error", "--max-time", "20", *arguments]
        run = subprocess.run(command, input=content, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
        return run.stdout.decode()

    written = ["--output", "/dev/null", "--write-out", "%{http_code} %{num_connects}\n"]
    arguments = [part for path in ["/", "/page.css", "/nothing", "/page.js"] for part in [url + path, *written, "--next"]]
    check("curl: one connection", curl(*arguments[:-1]).split("\n")[:4], ["200 1", "200 0", "404 0", "200 0"])
    head = curl("--head", url).split("\r\n")
    check("curl: HEAD", (head[0], head[-2:]), ("HTTP/1.1 200 OK", ["", ""]))
    expects = ["--header", "Expect: 100-continue"]
    for what, extra, size, status in [
        ("content", [], 1000, 405),
        ("content that is asked for", expects, LIMIT, 405),
        ("chunks", ["--header", "Transfer-Encoding: chunked"], LIMIT, 405),
        ("chunks that are asked for", ["--header", "Transfer-Encoding: chunked", *expects], LIMIT, 405),
        ("too much, asked for", expects, 8 * LIMIT, 413),
        ("too much", ["--header", "Expect:"], 8 * LIMIT, 413),
        ("too much in chunks", ["--header", "Transfer-Encoding: chunked", "--header", "Expect:"], 8 * LIMIT, 413),
    ]:
        seen = curl(*extra, "--data-binary", "@-", *written, url, content=b"x" * size)
        check(f"curl: {what}", seen.split()[0], str(status))


async def with_aiohttp(server):
    host, port = server.address()
    async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
        for method, target, content, status in [
            ("GET", "/", None, 200),
            ("POST", "/", b"x" * 10_000, 405),
            ("GET", "/page.js", None, 200),
        ] * 20:
            async with session.request(method, target, data=content) as response:
                await response.read()
                check(f"aiohttp: {method} {target}", response.status, status)
        answers = await asyncio.gather(*(session.get("/") for _ in range(100)))
        check("aiohttp: a hundred at once", {answer.status for answer in answers}, {200})
        for answer in answers:
            await answer.read()
        async with session.ws_connect("/ws") as socket:
            await socket.ping()
            check("aiohttp: a WebSocket connection behind them", socket.closed, False)


def main():
    with Server(sys.argv[1], "127.0.0.1:0") as server:
        with_http_client(server)
        with_curl(server)
        asyncio.run(with_aiohttp(server))


if __name__ == "__main__":
    main()
