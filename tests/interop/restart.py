#!/usr/bin/env python3
"""Checks that servers are started again without a gap: under load, no client is refused or disconnected.

    restart.py RESTART SYSTEMD        restart.py target/release/examples/restart target/release/examples/systemd

The example `restart` replaces itself on SIGHUP. The example `systemd` gets its sockets from a service manager, which
this script plays.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from clients import raw
from process import Server, adopt_orphans, exit_on_sigterm, split
from report import Report, expect, expect_equal

RESTARTS = 20
LOAD_THREADS = 4
SECONDS = 20


def main(restart, systemd):
    exit_on_sigterm()
    # The successors of a server are the children of this script once the server has ended.
    adopt_orphans()
    report = Report()
    with report.check("restart/no-client-is-refused", 120):
        restart_under_load(restart)
    with report.check("restart/clients-that-stay-are-closed-one-after-the-other", 60):
        closed_in_turn(restart)
    with report.check("restart/a-successor-that-can-not-start-changes-nothing", 60):
        failing_successor(restart)
    with report.check("systemd/no-client-is-refused", 120):
        activation_under_load(systemd)
    with report.check("systemd/listens-by-itself-without-a-service-manager", 60):
        with Server(systemd, "127.0.0.1:0") as server:
            echo(server.url)
            server.signal(signal.SIGTERM)
            expect_equal(server.wait(10), 0, "the exit status")
    report.exit()


def echo(url):
    client = raw.Client(url)
    client.send("hello")
    expect_equal(client.recv(), "hello", "the echo")
    expect_equal(client.close(1000), 1000, "the close code")


def connect(url):
    """An echo, and a client whose opening handshake takes a while."""
    echo(url)
    host, port = split(url)
    request = raw.request(host, port, "dGhlIHNhbXBsZSBub25jZQ==")
    with socket.create_connection((host, port), timeout=SECONDS) as client:
        client.sendall(request[:20])
        time.sleep(0.005)
        client.sendall(request[20:])
        expect_equal(client.recv(12), b"HTTP/1.1 101", "the status")


class Load:
    """Threads that connect, echo a message and close, again and again. Whatever fails is an error of the check."""

    def __init__(self, connect):
        self.connect = connect
        self.count = 0
        self.errors = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(LOAD_THREADS)]

    def _run(self):
        while not self.stopped.is_set():
            try:
                self.connect()
                self.count += 1
            except Exception as error:
                self.errors.append(f"after {self.count} connections: {type(error).__name__}: {error}")
                return

    def wait_for_more(self, wanted):
        wanted += self.count
        deadline = time.monotonic() + SECONDS
        while self.count < wanted and not self.errors:
            expect(time.monotonic() < deadline, "the load stands still")
            time.sleep(0.005)
        expect(not self.errors, self.errors)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join(SECONDS)
        if kind is None:
            expect(not self.errors, self.errors)
            print(f"   {self.count} connections, none refused", flush=True)


def restart_under_load(binary):
    with Server(binary, "127.0.0.1:0", "--drain", "20") as server:
        pid = process_of(server)
        expect_equal(pid, server.pid, "the process")
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: end(pid))
            with Load(lambda: connect(server.url)) as load:
                for number in range(RESTARTS):
                    # This one stays while the server is replaced, and leaves later.
                    staying = raw.Client(server.url)
                    before = pid
                    os.kill(before, signal.SIGHUP)
                    pid = process_of(server)
                    load.wait_for_more(20)
                    staying.send("still here")
                    expect_equal(staying.recv(), "still here", "the echo of the server before")
                    staying.close(1000)
                    expect_equal(wait(before, server), 0, f"the exit status of process {number}")
        server.process.returncode = 0  # waited for above


def process_of(server):
    """The number of the process that says next that it serves."""
    while True:
        line = server.lines.get(timeout=SECONDS)
        expect(line is not None, "the server's output ended")
        if line.startswith("process "):
            return int(line.split()[1])


def wait(pid, server):
    """Waits for the end of a process of the server; returns its exit status."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    raise AssertionError(f"process {pid} does not end")


def end(pid):
    # It has ended only if the check has failed already.
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGTERM)
        expect_equal(wait(pid, None), 0, "the exit status of the last process")


def closed_in_turn(binary):
    """Clients that do not leave are closed with 1012, at different times, and find the successor."""
    with Server(binary, "127.0.0.1:0", "--drain", "0.1", "--spread", "3") as server:
        before = process_of(server)
        clients = [raw.Client(server.url) for _ in range(20)]
        for client in clients:
            client.send("hello")
            expect_equal(client.recv(), "hello", "the echo")
        os.kill(before, signal.SIGHUP)
        pid = process_of(server)
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: end(pid))
            times = []
            threads = [threading.Thread(target=come_back, args=(client, server.url, times)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SECONDS)
            expect_equal(len(times), len(clients), "the clients that were closed and came back")
            expect(max(times) - min(times) > 0.5, f"closed within {max(times) - min(times)} s")
            expect_equal(wait(before, server), 0, "the exit status of the process before")
        server.process.returncode = 0  # waited for above


def come_back(client, url, times):
    opcode, _, payload = client.recv_frame()
    expect_equal((opcode, int.from_bytes(payload[:2], "big")), (raw.CLOSE, 1012), "the frame")
    client.socket.sendall(raw.frame(raw.CLOSE, payload))
    echo(url)
    times.append(time.monotonic())


def failing_successor(binary):
    with tempfile.TemporaryDirectory() as directory:
        program = os.path.join(directory, "server")
        os.symlink(os.path.abspath(binary), program)
        with Server(program, "127.0.0.1:0") as server:
            expect_equal(process_of(server), server.pid, "the process")
            os.remove(program)
            os.kill(server.pid, signal.SIGHUP)
            os.symlink("/bin/false", program)
            os.kill(server.pid, signal.SIGHUP)
            time.sleep(0.3)
            echo(server.url)
            server.signal(signal.SIGTERM)
            expect_equal(server.wait(10), 0, "the exit status")


class Manager:
    """Opens sockets and starts the server with them, as systemd does."""

    def __init__(self, binary, directory):
        self.binary = binary
        self.tcp = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.path = os.path.join(directory, "server.sock")
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(self.path)
        self.unix.listen(4096)
        self.notify_path = os.path.join(directory, "notify")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(self.notify_path)
        self.notify.settimeout(SECONDS)
        self.url = "ws://%s:%d" % self.tcp.getsockname()

    def start(self):
        """Starts the server, and returns when it says that it is ready."""
        script = 'exec 3<&"$TCP" 4<&"$UNIX"; export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=tcp:unix; exec "$0"'
        tcp, unix = self.tcp.fileno(), self.unix.fileno()
        environment = {**os.environ, "NOTIFY_SOCKET": self.notify_path, "TCP": str(tcp), "UNIX": str(unix)}
        process = subprocess.Popen(
            ["bash", "-c", script, self.binary],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
            pass_fds=(tcp, unix),
        )
        expect_equal(self.notify.recv(4096).strip(), b"READY=1", "the first notification")
        return process

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        expect_equal(self.notify.recv(4096).strip(), b"STOPPING=1", "the second notification")
        expect_equal(process.wait(SECONDS), 0, "the exit status")

    def connect_unix(self):
        """A plain HTTP request, which is answered 426."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(SECONDS)
            client.connect(self.path)
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while piece := client.recv(4096):
                answer += piece
        expect(answer.startswith(b"HTTP/1.1 426 "), answer)


def activation_under_load(binary):
    with tempfile.TemporaryDirectory() as directory:
        manager = Manager(binary, directory)
        process = manager.start()
        manager.connect_unix()
        for _ in range(RESTARTS):
            echo(manager.url)
            manager.stop(process)
            # These wait for the next process.
            waiting = raw_sockets(manager)
            process = manager.start()
            for client in waiting:
                expect(client.recv(12) == b"HTTP/1.1 426", "a client that waited is answered")
                client.close()
            manager.connect_unix()
        manager.stop(process)
        expect(os.path.exists(manager.path), "the file of the socket is the service manager's")


def raw_sockets(manager):
    tcp = socket.create_connection(manager.tcp.getsockname(), timeout=SECONDS)
    unix = socket.socket(socket.AF_UNIX)
    unix.settimeout(SECONDS)
    unix.connect(manager.path)
    for client in (tcp, unix):
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return [tcp, unix]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
