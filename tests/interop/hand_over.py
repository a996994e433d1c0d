#!/usr/bin/env python3
"""Checks that a server is handed over to new processes and that no client notices.

    hand_over.py RESTART                       hand_over.py target/features/release/examples/restart
    hand_over.py RESTART --clients 1000 --times 20 --rate 5

Half of the clients are idle, the others stream numbered messages and compare the echoes. They are clients of `websockets` and
of Node's `ws`. Meanwhile others connect, echo and leave, of which none may be refused.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time

import websockets

from process import Server, adopt_orphans, exit_on_sigterm, raise_file_limit
from report import Report, expect, expect_equal
from restart import Load, connect, process_of, wait

SECONDS = 30


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("restart")
    parser.add_argument("--clients", type=int, default=200, help="of each kind (default 200)")
    parser.add_argument("--times", type=int, default=20, help="how often the server is handed over (default 20)")
    parser.add_argument("--rate", type=float, default=5, help="messages a second of a client that streams (default 5)")
    options = parser.parse_args()
    exit_on_sigterm()
    raise_file_limit(12000)
    # The successors of a server are the children of this script once the server has ended.
    adopt_orphans()
    report = Report()
    with report.check("hand-over/no-client-notices", 240):
        under_load(options)
    with report.check("hand-over/another-user-is-refused", 60):
        another_user(options.restart)
    report.exit()


def another_user(binary):
    """Only processes of the same user may take over, whoever may connect to the socket. The script has to be root."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = os.path.join(directory, "hand-over.sock")
        with Server(binary, "127.0.0.1:0", "--hand-over", path) as server:
            expect_equal(stat.S_IMODE(os.stat(path).st_mode), 0o600, "the mode of the socket")
            expect_equal(as_nobody(lambda: ask(path)), "PermissionError", "what another user gets")
            os.chmod(path, 0o666)
            answer = as_nobody(lambda: ask(path))
            # The kind of a refusal, and why.
            expect(answer.startswith("3 ") and "is of user 65534" in answer, answer)
            connect(server.url)
            server.signal(signal.SIGTERM)
            expect_equal(server.wait(10), 0, "the exit status")


def ask(path):
    """Asks for the server as a new process does. The kind of the first answer, and its text."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(path)
        hello = b"tb-hand\n\0\2"
        # One that refuses at once does not wait for what this one says.
        with contextlib.suppress(BrokenPipeError):
            client.sendall(b"\1" + len(hello).to_bytes(8, "big") + hello)
        answer, descriptors, _, _ = socket.recv_fds(client, 4096, 16)
        expect(not descriptors, "no descriptor is sent")
        return f"{answer[0]} {answer[9:].decode()}"


def as_nobody(call):
    """What a function returns, or the kind of error that it raises, in a process of another user."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            said = call()
        except BaseException as error:
            said = type(error).__name__
        os.write(there, said.encode())
        os._exit(0)
    os.close(there)
    with open(here, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


class Python(threading.Thread):
    """Clients of `websockets`, on one thread."""

    def __init__(self, url, clients, rate):
        super().__init__(daemon=True)
        self.url, self.clients, self.rate = url, clients, rate
        self.is_open, self.stopped = threading.Event(), threading.Event()
        self.echoes, self.errors, self.longest = 0, [], []
        self.start()

    def run(self):
        try:
            asyncio.run(self._run())
        except Exception as error:
            self.errors.append(f"{type(error).__name__}: {error}")
        self.is_open.set()

    async def _run(self):
        opened = [await websockets.connect(self.url, compression=None, ping_interval=None) for _ in range(self.clients)]
        self.is_open.set()
        tasks = [self._client(client, number) for number, client in enumerate(opened)]
        await asyncio.gather(*tasks)
        await asyncio.gather(*(client.close() for client in opened))

    async def _client(self, client, number):
        counts = {"sent": 0, "received": 0}
        reader = asyncio.create_task(self._read(client, number, counts))
        while not self.stopped.is_set():
            if number % 2 == 0:
                await self._send(client, number, counts)
            done, _ = await asyncio.wait([reader], timeout=1 / self.rate)
            if done:
                break
        try:
            if not reader.done():
                await self._send(client, number, counts)
                async with asyncio.timeout(20):
                    while counts["received"] < counts["sent"] and not reader.done():
                        await asyncio.sleep(0.02)
            if reader.done():
                await reader
        except Exception as error:
            self.errors.append(f"client {number}, {counts}: {type(error).__name__}: {error}")
        reader.cancel()

    async def _send(self, client, number, counts):
        await client.send(f"{number} {counts['sent']}")
        counts["sent"] += 1

    async def _read(self, client, number, counts):
        last, longest = None, 0
        try:
            async for message in client:
                now = time.monotonic()
                longest = max(longest, now - last) if last else 0
                last = now
                expect_equal(message, f"{number} {counts['received']}", "the next message")
                counts["received"] += 1
                self.echoes += 1
            raise AssertionError(f"closed with {client.close_code}")
        finally:
            if number % 2 == 0:
                self.longest.append(longest * 1000)

    def opened(self):
        expect(self.is_open.wait(60) and not self.errors, f"the clients do not connect: {self.errors}")

    def finish(self):
        self.stopped.set()
        self.join(60)
        expect(not self.is_alive(), "the clients do not end")
        return self.echoes, self.errors, self.longest


class Node:
    """Clients of Node's `ws`, in a process."""

    def __init__(self, url, clients, rate):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hand_over.mjs")
        command = ["node", script, url, str(clients), str(rate)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def opened(self):
        expect_equal(self.process.stdout.readline(), "open\n", "the first line of Node's clients")

    def finish(self):
        output, _ = self.process.communicate("stop\n", timeout=60)
        seen = json.loads(output)
        return seen["echoes"], seen["errors"], seen["longest"]


@contextlib.contextmanager
def serving(binary):
    """A server that can be handed over. Yields it, and a function that hands it over to the next process."""
    with tempfile.TemporaryDirectory() as directory, Server(
        binary, "127.0.0.1:0", "--hand-over", os.path.join(directory, "hand-over.sock")
    ) as server:
        processes = [process_of(server)]

        def hand_over():
            before = processes[-1]
            os.kill(before, signal.SIGHUP)
            processes.append(process_of(server))
            expect_equal(wait(before, server), 0, f"the exit status of process {len(processes) - 1}")

        try:
            yield server, hand_over
        finally:
            if len(processes) > 1:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(processes[-1], signal.SIGTERM)
                    wait(processes[-1], None)
                server.process.returncode = 0  # waited for above


def under_load(options):
    with serving(options.restart) as (server, hand_over):
        kinds = [Python(server.url, options.clients, options.rate), Node(server.url, options.clients, options.rate)]
        for kind in kinds:
            kind.opened()
        with Load(lambda: connect(server.url)) as load:
            for _ in range(options.times):
                hand_over()
                load.wait_for_more(10)
        results = [kind.finish() for kind in kinds]
        for echoes, errors, _ in results:
            expect(not errors, f"{len(errors)} errors: {errors[:3]}")
            expect(echoes > options.clients, f"{echoes} echoes")
        pauses = sorted(pause for _, _, longest in results for pause in longest)
        print(
            f"   {options.times} hand-overs, {2 * options.clients} clients, {sum(echoes for echoes, _, _ in results)} echoes; "
            f"the longest time between two echoes of a client, where {1000 / options.rate:.0f} ms are usual: "
            f"{pauses[len(pauses) // 2]:.0f} ms (median), {pauses[len(pauses) * 99 // 100]:.0f} ms (p99)",
            flush=True,
        )


if __name__ == "__main__":
    main()
