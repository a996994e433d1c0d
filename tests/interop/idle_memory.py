#!/usr/bin/env python3
"""Measures the memory of an idle connection at a server, and checks that it has no thread.

    idle_memory.py BINARY [FLAG ...] [--connections N] [--limit BYTES | --no-limit]

The limit applies to the growth of VmRSS per connection after the opening handshakes, in a new process
with one worker, before the first keepalive ping. With --deflate, which is passed on to the server, the
connections negotiate compression without context takeover. The limit then also applies after a
compressed message was echoed on each connection.
"""

import argparse
import multiprocessing
import resource
import sys
import time

from clients import raw
from process import Server, exit_on_sigterm, raise_file_limit
from report import Report, expect, expect_equal

# The examples ping after 30 s. A ping would change what is measured.
SECONDS_UNTIL_PING = 30


def run_clients(url, count, source, pipe, deflate):
    """The main function of a client process: opens `count` connections, and sends on each when the pipe says `echo`."""
    try:
        extensions = raw.DEFLATE if deflate else None
        clients = [raw.Client(url, source=(source, 0), extensions=extensions) for _ in range(count)]
        pipe.send(None)
        while pipe.recv() == "echo":
            for number, client in enumerate(clients):
                message = f"connection {number} of {source}"
                if deflate:
                    message = f"{message}, " * 20  # beyond the size from which messages are compressed
                    client.send_deflated(message)
                    expect_equal(client.recv_deflated(), message, f"connection {number}")
                else:
                    client.send(message)
                    expect_equal(client.recv(), message, f"connection {number}")
            pipe.send(None)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def wait_for_clients(pipes, seconds):
    deadline = time.monotonic() + seconds
    for pipe in pipes:
        expect(pipe.poll(max(0, deadline - time.monotonic())), f"the clients were not done in {seconds} s")
        error = pipe.recv()
        expect(error is None, error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--no-limit", action="store_true")
    options, flags = parser.parse_known_args()
    exit_on_sigterm()
    report = Report()
    label = " ".join(["idle", *flags]).replace("--", "").replace(" ", "-")
    with report.check(f"memory/{label}/open-files-limit"):
        raise_file_limit(options.connections + 200)
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        expect(soft == resource.RLIM_INFINITY or soft >= options.connections + 200, f"the limit is {soft}")
    if report.failed:
        report.exit()
    processes = []
    try:
        with report.check(f"memory/{label}/server-starts"):
            server = Server(options.binary, "127.0.0.1:0", "--workers", "1", *flags)
        if not report.failed:
            with server:
                measure(report, label, server, options, processes, "--deflate" in flags)
    finally:
        for process in processes:
            process.kill()
    report.exit()


def measure(report, label, server, options, processes, deflate):
    count = options.connections
    share = 2500
    pipes = []
    time.sleep(0.5)  # until its threads have started
    before = server.status()
    print(f"before: {line(before)}", flush=True)
    start = time.monotonic()
    with report.check(f"memory/{label}/{count}-connections", 120):
        for number in range(0, count, share):
            here, there = multiprocessing.Pipe()
            # Each process has an address of its own, so that there are enough local ports.
            arguments = (server.url, min(share, count - number), f"127.0.0.{number // share + 2}", there, deflate)
            process = multiprocessing.Process(target=run_clients, args=arguments, daemon=True)
            process.start()
            processes.append(process)
            pipes.append(here)
        wait_for_clients(pipes, 100)
    if report.failed:
        return
    opened = time.monotonic() - start
    idle = server.status()
    per = lambda now, what: (now[what] - before[what]) / count
    print(f"{count} idle connections after {opened:.1f} s: {line(idle)}")
    print(f"bytes per idle connection: VmRSS {per(idle, 'VmRSS'):.0f}, RssAnon {per(idle, 'RssAnon'):.0f}")
    with report.check(f"memory/{label}/measured-before-the-first-ping"):
        expect(opened < SECONDS_UNTIL_PING - 2, f"{opened:.1f} s to open them: too slow to measure")
    with report.check(f"memory/{label}/same-number-of-threads"):
        expect_equal(idle["threads"], before["threads"], "threads")
    if not options.no_limit:
        with report.check(f"memory/{label}/at-most-{options.limit}-bytes-per-connection"):
            expect(per(idle, "VmRSS") <= options.limit, f"{per(idle, 'VmRSS'):.0f} bytes")
    with report.check(f"memory/{label}/one-echo-on-each", 120):
        for pipe in pipes:
            pipe.send("echo")
        wait_for_clients(pipes, 100)
    used = server.status()
    deadline = time.monotonic() + 10
    # The worker frees its shared compressor within a second of the last message.
    while deflate and per(used, "VmRSS") > options.limit and time.monotonic() < deadline:
        time.sleep(0.1)
        used = server.status()
    print(f"after one echo on each: {line(used)}")
    print(f"bytes per used connection: VmRSS {per(used, 'VmRSS'):.0f}, RssAnon {per(used, 'RssAnon'):.0f}")
    if deflate and not options.no_limit:
        with report.check(f"memory/{label}/at-most-{options.limit}-bytes-per-used-connection"):
            expect(per(used, "VmRSS") <= options.limit, f"{per(used, 'VmRSS'):.0f} bytes")
    with report.check(f"memory/{label}/same-number-of-threads-after-echoes"):
        expect_equal(used["threads"], before["threads"], "threads")
    for pipe in pipes:
        pipe.send("end")
    for process in processes:
        process.join(20)
    time.sleep(1)
    print(f"after all connections are closed: {line(server.status())}", flush=True)
    with report.check(f"memory/{label}/serves-afterwards", 20):
        client = raw.Client(server.url)
        client.send("after")
        expect_equal(client.recv(), "after", "the echo")
        expect_equal(client.close(1000), 1000, "the close")


def line(status):
    return f"VmRSS {status['VmRSS'] // 1024} KiB, RssAnon {status['RssAnon'] // 1024} KiB, {status['threads']} threads"


if __name__ == "__main__":
    main()
