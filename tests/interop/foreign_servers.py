#!/usr/bin/env python3
"""Checks the client against servers of other libraries, with and without compression.

    foreign_servers.py BINARY [--tls DIRECTORY] [--only NAME[/DEFLATE]] [--at-once N] [--duplex SIZE:SECONDS]...
    foreign_servers.py target/release/examples/interop_client --only ws/takeover

BINARY is the example `interop_client`. DIRECTORY has what .ci/certificates makes: then the servers speak TLS, two more of
them by a program in front, and only the modes `off` and `takeover` are checked. servers/README.md describes the servers.
"""

import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import threading

from process import Server, exit_on_sigterm
from report import Report

SERVERS = pathlib.Path(__file__).resolve().parent / "servers"

# The command of each server, and the number of checks without those of /duplex.
SERVER_COMMANDS = {
    "websockets-asyncio": ([sys.executable, SERVERS / "websockets_server.py"], 54),
    "websockets-sync": ([sys.executable, SERVERS / "websockets_sync_server.py"], 54),
    "aiohttp": ([sys.executable, SERVERS / "aiohttp_server.py"], 45),
    "ws": (["node", SERVERS / "ws_server.mjs"], 51),
}
# Programs that end TLS in front of the server with `ws`.
TERMINATOR_COMMANDS = {
    name: ([sys.executable, SERVERS / "terminator.py", name], 51) for name in ("nginx", "stunnel")
}
WITHOUT_FRAGMENTS = {"aiohttp"}
STREAMING = {"websockets-asyncio", "websockets-sync"}
# OpenSSL allows one thread at a time in a connection, and Python's `ssl` lets a sender and a receiver in at once: under
# `/duplex` the server then fails with SSLEOFError or BAD_LENGTH, or stands still.
ONE_THREAD_AT_A_TIME_OVER_TLS = {"websockets-sync"}
DEFLATE = ["off", "alone", "takeover"]
TLS_DEFLATE = ["off", "takeover"]
DUPLEX = ["64:10", "262144:4"]
TIMEOUT = 240  # seconds for one server in one mode


class Checks:
    """Prints and counts the checks of several drivers that run at once."""

    def __init__(self):
        self.report = Report()
        self.lock = threading.Lock()

    def ok(self, name):
        with self.lock:
            self.report.ok(name)

    def fail(self, name, why):
        with self.lock:
            self.report.fail(name, why)

    def pass_on(self, line):
        """Counts and prints a line of a driver; returns the name of its check, if it is the result of one."""
        found = re.match(r"(ok|FAIL) (\S+) ?(.*)", line)
        if not found:
            with self.lock:
                print(line.rstrip(), flush=True)
            return None
        if found[1] == "ok":
            self.ok(found[2])
        else:
            self.fail(found[2], found[3])
        return found[2]


def run(checks, binary, name, deflate, duplex, tls):
    label = f"foreign{'-tls' if tls else ''}/{name}/{deflate}"
    command, expected = (SERVER_COMMANDS | TERMINATOR_COMMANDS)[name]
    if tls and name in ONE_THREAD_AT_A_TIME_OVER_TLS:
        duplex = []
    expected += len(duplex)
    flags = ["--cert", tls / "cert.pem", "--key", tls / "key.pem"] if tls else []
    try:
        with Server(*command, "--deflate", deflate, *flags, schemes=("wss" if tls else "ws",)) as server:
            seen = drive(checks, binary, server.url, label, deflate, duplex, tls)
            if server.process.poll() is not None:
                raise RuntimeError(f"the server ended with {server.process.returncode}")
        if len(seen) != expected or len(set(seen)) != expected:
            raise RuntimeError(f"{len(seen)} checks of {expected}")
        checks.ok(f"{label}/all-{expected}-checks")
    except Exception as error:
        checks.fail(f"{label}/all-{expected}-checks", f"{type(error).__name__}: {error}")


def drive(checks, binary, url, label, deflate, duplex, tls):
    """Runs the driver; returns the names of its checks."""
    flags = ["--without-fragments"] if label.split("/")[1] in WITHOUT_FRAGMENTS else []
    flags += ["--streaming"] if label.split("/")[1] in STREAMING else []
    flags += ["--ca", tls / "ca.pem"] if tls else []
    flags += [flag for each in duplex for flag in ("--duplex", each)]
    driver = subprocess.Popen(
        [binary, url, label, "--deflate", deflate, *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(TIMEOUT, driver.kill)
    watchdog.start()
    try:
        seen = [name for name in map(checks.pass_on, driver.stdout) if name]
        status = driver.wait()
    finally:
        watchdog.cancel()
        driver.kill()
        driver.wait()
    if status not in (0, 1):
        raise RuntimeError(f"the driver ended with {status} after {len(seen)} checks")
    return seen


def main():
    exit_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--tls", type=pathlib.Path, metavar="DIRECTORY")
    parser.add_argument("--only", default="", help="a server, or a server and a mode: ws/alone")
    parser.add_argument("--at-once", type=int, default=3, help="the number of servers that run at once")
    parser.add_argument("--duplex", action="append", metavar="SIZE:SECONDS", help=f"default: {' and '.join(DUPLEX)}")
    options = parser.parse_args()
    checks = Checks()
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        for deflate in TLS_DEFLATE if options.tls else DEFLATE:
            for name in SERVER_COMMANDS | (TERMINATOR_COMMANDS if options.tls else {}):
                if f"{name}/{deflate}/".startswith(f"{options.only}/" if options.only else ""):
                    pool.submit(run, checks, options.binary, name, deflate, options.duplex or DUPLEX, options.tls)
    checks.report.exit()


if __name__ == "__main__":
    main()
