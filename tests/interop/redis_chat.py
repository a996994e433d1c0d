#!/usr/bin/env python3
"""Two servers of the example `chat` behind nginx, with one Redis: one chat, also when one of them is killed.

    redis_chat.py CHAT        redis_chat.py target/features/release/examples/chat     (built with the feature `redis`)
"""

import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import websockets.sync.client
from websockets.exceptions import ConnectionClosed

from process import Process, Server, exit_on_sigterm
from proxies import Proxy, certificate, free_port
from report import Report, expect, expect_equal

PATIENCE = 20  # seconds for what takes a moment
MESSAGES = 50  # of each page
SLOW_MESSAGES = 4000  # 16 MB: more than the buffers of the operating system and the topic's


class Redis(Process):
    def __init__(self, directory, port=None):
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", directory],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        eventually("Redis listens", self.listens)

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False


def eventually(what, test):
    deadline = time.monotonic() + PATIENCE
    while not test():
        expect(time.monotonic() < deadline, f"{what}: not within {PATIENCE} s")
        time.sleep(0.05)


class Page:
    """A client that does as the page of the chat does."""

    def __init__(self, open_connection, name, room):
        self.open_connection = open_connection
        self.name, self.room = name, room
        self.position, self.seen, self.texts = "", set(), []
        self.repeated = 0
        self.told = []  # what was said of missed messages
        self.join()

    def join(self):
        self.client = self.open_connection()
        self.client.send(json.dumps({"type": "join", "name": self.name, "room": self.room, "position": self.position}))
        early, self.welcome = [], None
        while self.welcome is None:
            message = self.receive()
            if message["type"] == "said":
                early.append(message)
            elif message["type"] == "welcome":
                self.welcome = message
        self.position = self.welcome["position"]
        for message in early:
            self.said(message)

    def receive(self, seconds=PATIENCE):
        return json.loads(self.client.recv(timeout=seconds))

    def said(self, message):
        life, number = self.position.split("-")
        of_this_server = message["position"].startswith(life)
        self.position = message["position"] if of_this_server else f"{life}-{int(number) + 1}"
        if message["position"] in self.seen:
            self.repeated += 1
        else:
            self.seen.add(message["position"])
            self.texts.append(message["text"])

    def take(self, seconds=PATIENCE):
        """Receives one message."""
        message = self.receive(seconds)
        if message["type"] == "said":
            self.said(message)
        elif message["type"] == "missed":
            self.told.append(message["missed"])

    def wait_for(self, text, seconds=PATIENCE):
        while text not in self.texts[-1:] and text not in self.texts:
            self.take(seconds)

    def hears(self, text):
        try:
            self.wait_for(text, 0.2)
            return True
        except TimeoutError:
            return False

    def is_connected(self):
        """Whether the connection still stands when all that has arrived is received."""
        try:
            while True:
                self.take(0.5)
        except TimeoutError:
            return True
        except ConnectionClosed:
            return False

    def say(self, text):
        self.client.send(json.dumps({"type": "say", "text": text}))

    def server(self):
        """What tells its server from the others."""
        return self.welcome["position"].split("-")[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()


# Without a bound, so that what nobody has received yet does not hold up a close.
CLIENT = {"proxy": None, "legacy": True, "max_queue": None}


def direct(server):
    """How to connect to one server, past nginx."""
    return lambda: websockets.sync.client.connect(f"{server.url}/ws", **CLIENT)


def slow(server):
    """As `direct`, with little room for what nobody has received yet."""

    def connect():
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        sock.connect(server.address())
        return websockets.sync.client.connect(f"{server.url}/ws", sock=sock, **{**CLIENT, "max_queue": 1})

    return connect


def through(nginx):
    tls = {"ssl": nginx.context, "server_hostname": "localhost"}
    return lambda: websockets.sync.client.connect("wss://localhost/ws", sock=nginx.tcp(), **tls, **CLIENT)


def wait_until_joined(pages):
    """Has each page speak until the others have heard it: from then on every server is subscribed at Redis."""
    for page in pages:
        deaf, deadline = pages, time.monotonic() + PATIENCE
        for number in itertools.count():
            text = f"{page.name} is heard in the {page.room} {number}"
            page.say(text)
            deaf = [other for other in deaf if not other.hears(text)]
            if not deaf:
                break
            expect(time.monotonic() < deadline, f"{deaf[0].name} does not hear {page.name}")


def everybody_hears_everybody(pages, what):
    """Each message comes once to each page, and those of one page in order."""
    for number in range(MESSAGES):
        for page in pages:
            page.say(f"{what}, {page.name} {number}")
    for page in pages:
        for other in pages:
            page.wait_for(f"{what}, {other.name} {MESSAGES - 1}")
        for other in pages:
            prefix = f"{what}, {other.name} "
            numbers = [int(text.removeprefix(prefix)) for text in page.texts if text.startswith(prefix)]
            expect_equal(numbers, list(range(MESSAGES)), f"what {page.name} has of {other.name}")


def checks(report, binary, directory):
    redis = servers = nginx = None
    pages = []
    with report.check("redis-chat/starts", 60):
        redis = Redis(directory)
        servers = [Server(binary, "127.0.0.1:0", "--redis", redis.url) for _ in range(2)]
        second = "%s:%d" % servers[1].address()
        changes = [("127.0.0.1:8081", second)]
        nginx = Proxy("nginx-upstream.conf", servers[0], directory, certificate(directory), changes)
    if nginx is None:
        return
    with redis, servers[0], servers[1], nginx:
        with report.check("redis-chat/nginx-shares-the-pages-among-the-servers", 60):
            for name in ("Ada", "Bob", "Carl", "Dora"):
                pages.append(Page(through(nginx), name, "kitchen"))
            lives = [page.server() for page in pages]
            expect_equal(sorted(map(lives.count, set(lives))), [2, 2], "how many pages the servers have")
            expect_equal({len(page.welcome["people"]) for page in pages}, {1, 2}, "who is here, for each server")
            wait_until_joined(pages)
        with report.check("redis-chat/each-message-comes-once-to-every-page", 60):
            everybody_hears_everybody(pages, "first")
            expect_equal([page.repeated for page in pages], [0] * 4, "messages that came twice")
            expect_equal([page.told for page in pages], [[]] * 4, "what was said of missed messages")
        with report.check("redis-chat/a-page-that-comes-back-gets-what-it-missed-once", 60):
            here, there = (direct(server) for server in servers)
            with Page(here, "Eve", "attic") as page, Page(here, "Finn", "attic") as stays:
                with Page(there, "Gil", "attic") as far:
                    wait_until_joined([page, stays, far])
                    for number in range(5):
                        far.say(f"for all {number}")
                    page.wait_for("for all 4"), stays.wait_for("for all 4")
                    page.client.close()
                    before = len(page.texts)
                    for number in range(20):
                        far.say(f"meanwhile far {number}")
                    stays.wait_for("meanwhile far 19")
                    stays.say("meanwhile here")
                    stays.wait_for("meanwhile here")
                    page.join()
                    page.wait_for("meanwhile here")
                    expect_equal(page.welcome["missed"], 0, "what was missed")
                    missed = [*(f"meanwhile far {number}" for number in range(20)), "meanwhile here"]
                    expect_equal(page.texts[before:], missed, "what the page got")
                    expect_equal(page.repeated, 0, "messages that came twice")
        with report.check("redis-chat/a-room-that-was-empty-here-may-lack-what-others-said", 60):
            with Page(here, "Hedy", "cellar") as page, Page(there, "Ivo", "cellar") as far:
                wait_until_joined([page, far])
                page.client.close()
                far.say("nobody is there")
                far.wait_for("nobody is there")
                page.join()
                expect_equal(page.welcome["missed"], None, "what was missed")
        with report.check("redis-chat/a-slow-page-holds-up-nobody-and-is-told-what-it-missed", 60):
            with Page(slow(servers[0]), "Jim", "hall") as page, Page(here, "Kay", "hall") as talker:
                for number in range(SLOW_MESSAGES):
                    talker.say(f"{number} {'x' * 3900}")
                    talker.wait_for(f"{number} {'x' * 3900}")
                talker.say("the end")
                page.wait_for("the end")
                while not page.told:
                    page.take()
                expect_equal(len(page.texts) + sum(page.told), SLOW_MESSAGES + 1, "messages that came, and that did not")
                expect_equal((page.repeated, talker.told), (0, []), "what was repeated, and what the other missed")
        with report.check("redis-chat/the-pages-of-a-killed-server-go-on-with-the-other", 90):
            servers[0].process.kill()
            servers[0].wait(10)
            staying = [page for page in pages if page.is_connected()]
            leaving = [page for page in pages if page not in staying]
            expect_equal((len(staying), len(leaving)), (2, 2), "pages that stay, and that have to leave")
            staying[0].say("while they are away")
            staying[1].wait_for("while they are away")
            for page in leaving:
                page.join()
                expect_equal(page.server(), staying[0].server(), "the server that is left")
                expect_equal(page.welcome["missed"], None, "what was missed, for a page from another server")
                page.wait_for("while they are away")
            everybody_hears_everybody(pages, "second")
            for page in pages:
                expect_equal(len(page.texts), len(set(page.texts)), f"{page.name} has each message once")
        with report.check("redis-chat/pages-hear-that-messages-may-be-lost-when-redis-was-gone", 90):
            for page in pages:
                page.told.clear()
            redis.kill()
            everybody_hears_everybody(pages, "without Redis")
            with Redis(directory, redis.port):
                for page in pages:
                    while page.told != [None]:
                        page.take()
                everybody_hears_everybody(pages, "with Redis again")
        for page in pages:
            page.client.close()


def main(binary):
    exit_on_sigterm()
    report = Report()
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        checks(report, binary, directory)
    report.exit()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
