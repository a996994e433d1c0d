#!/usr/bin/env python3
"""Checks the examples with systemd itself: sockets that it opens, notifications, restarts, and reloads.

    systemd.py SYSTEMD RESTART     systemd.py target/release/examples/systemd target/features/release/examples/restart

RESTART is built with the feature `handover`. The script runs a manager of a user (`systemd --user`), with units of its own.
That refuses to run where systemd has not booted the machine, as in a container; so the script gives it a directory that
says so, in a mount namespace of its own, for which it has to be root.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time

from clients import raw
from process import exit_on_sigterm, free_port
from report import Report, expect, expect_equal

MANAGER = "/lib/systemd/systemd"
INSIDE = "--inside"
RESTARTS = 10
RELOADS = 5
SECONDS = 20

UNITS = {
    "echo.socket": """
[Socket]
ListenStream=127.0.0.1:{echo}
ListenStream={directory}/echo.sock
Backlog=4096
""",
    # More than five starts in ten seconds are too often, by default.
    "echo.service": """
[Unit]
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={systemd}
""",
    "game.service": """
[Service]
Type=notify
NotifyAccess=all
ExecStart={restart} 127.0.0.1:{game} --hand-over {directory}/hand-over.sock
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
""",
}


def main(systemd, restart):
    exit_on_sigterm()
    report = Report()
    with tempfile.TemporaryDirectory() as directory, Manager(directory, systemd, restart) as manager:
        with report.check("systemd-itself/the-first-client-starts-the-server", 60):
            activation(manager)
        with report.check("systemd-itself/no-client-is-refused-by-restarts", 120):
            restarts(manager)
        with report.check("systemd-itself/the-server-ends-as-it-should", 60):
            end(manager)
        with report.check("systemd-itself/a-reload-disconnects-nobody", 120):
            reloads(manager)
        with report.check("systemd-itself/a-server-that-is-killed-is-started-again", 60):
            killed(manager)
    report.exit()


class Manager:
    """systemd, which supervises the units of this script and nothing else."""

    def __init__(self, directory, systemd, restart):
        self.directory = directory
        self.echo, self.game = free_port(), free_port()
        units, run = os.path.join(directory, "units"), os.path.join(directory, "run")
        os.mkdir(units)
        os.mkdir(run, 0o700)
        paths = {"systemd": os.path.abspath(systemd), "restart": os.path.abspath(restart), "directory": directory}
        for name, text in UNITS.items():
            with open(os.path.join(units, name), "w") as file:
                file.write(text.format(echo=self.echo, game=self.game, **paths))
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": run,
            "SYSTEMD_UNIT_PATH": f"{units}:/usr/lib/systemd/user",
            "DBUS_SESSION_BUS_ADDRESS": "",
        }

    def __enter__(self):
        self.log = open(os.path.join(self.directory, "log"), "w+")
        self.process = subprocess.Popen(
            [MANAGER, "--user", "--log-target=console", "--unit=basic.target"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.environment,
        )  # fmt: skip
        try:
            self.wait_for("basic.target", "ActiveState", "active")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for unit in UNITS:
            self.call("stop", unit)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(SECONDS)
        self.process.kill()
        self.process.wait()

    def call(self, *arguments):
        """Calls systemctl. What it says, and whether it succeeded."""
        done = subprocess.run(
            ["systemctl", "--user", "--no-pager", *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=self.environment,
        )  # fmt: skip
        return done.stdout.strip(), done.returncode == 0, done.stderr.strip()

    def must(self, *arguments):
        said, succeeded, error = self.call(*arguments)
        expect(succeeded, f"systemctl {' '.join(arguments)}: {error}: {self.last_lines()}")
        return said

    def property(self, unit, name):
        return self.call("show", unit, f"--property={name}", "--value")[0]

    def wait_for(self, unit, name, wanted):
        """Waits until a property of a unit has this value, or is accepted by this function."""
        is_wanted = wanted if callable(wanted) else lambda found: found == wanted
        deadline = time.monotonic() + SECONDS
        while not is_wanted(found := self.property(unit, name)):
            expect(self.process.poll() is None, f"systemd has ended: {self.last_lines()}")
            expect(time.monotonic() < deadline, f"{unit}: {name} is still {found!r}: {self.last_lines()}")
            time.sleep(0.05)
        return found

    def last_lines(self):
        self.log.flush()
        with open(self.log.name) as log:
            return " | ".join(log.read().splitlines()[-8:])


def url(port):
    return f"ws://127.0.0.1:{port}/"


def echo(client, text):
    client.send(text)
    expect_equal(client.recv(), text, "the echo")


def activation(manager):
    manager.must("start", "echo.socket")
    expect_equal(manager.property("echo.service", "ActiveState"), "inactive", "the state before the first client")
    client = raw.Client(url(manager.echo), timeout=SECONDS)
    echo(client, "hello")
    # It is active once the server has said that it is ready.
    manager.wait_for("echo.service", "ActiveState", "active")
    expect_equal(client.close(1000), 1000, "the close code")
    expect_equal(unix_status(manager), b"426", "the status over the Unix socket")


def unix_status(manager):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SECONDS)
        client.connect(os.path.join(manager.directory, "echo.sock"))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return client.recv(12)[9:]


def restarts(manager):
    for number in range(RESTARTS):
        before = manager.property("echo.service", "MainPID")
        restart = subprocess.Popen(
            ["systemctl", "--user", "restart", "echo.service"], env=manager.environment, stdin=subprocess.DEVNULL
        )
        # Whoever connects meanwhile is served by the old process, or waits for the new one.
        count = 0
        while restart.poll() is None:
            with socket.create_connection(("127.0.0.1", manager.echo), timeout=SECONDS) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                # 503 is what a server says that is told to end while it reads the request.
                status = client.recv(12)[9:]
                expect(status in (b"426", b"503"), f"restart {number}, client {count}: the status is {status}")
                count += 1
        expect_equal(restart.returncode, 0, "the status of systemctl restart")
        expect(manager.property("echo.service", "MainPID") != before, "there is a new process")
        client = raw.Client(url(manager.echo), timeout=SECONDS)
        echo(client, f"hello {number}")
        client.dispose()


def end(manager):
    client = raw.Client(url(manager.echo), timeout=SECONDS)
    echo(client, "hello")
    stop = subprocess.Popen(
        ["systemctl", "--user", "stop", "echo.socket", "echo.service"], env=manager.environment, stdin=subprocess.DEVNULL
    )
    opcode, _, payload = client.recv_frame()
    expect_equal((opcode, int.from_bytes(payload[:2], "big")), (raw.CLOSE, 1001), "the frame")
    client.socket.sendall(raw.frame(raw.CLOSE, payload))
    expect_equal(stop.wait(SECONDS), 0, "the status of systemctl stop")
    expect_equal(manager.property("echo.service", "Result"), "success", "the result")
    expect_equal(manager.property("echo.service", "ExecMainStatus"), "0", "the exit status")
    client.dispose()


def reloads(manager):
    manager.must("start", "game.service")
    client = raw.Client(url(manager.game), timeout=SECONDS)
    echo(client, "hello")
    for number in range(RELOADS):
        before = manager.property("game.service", "MainPID")
        manager.must("reload", "game.service")
        manager.wait_for("game.service", "MainPID", lambda pid: pid not in (before, "0"))
        echo(client, f"hello {number}")
        newcomer = raw.Client(url(manager.game), timeout=SECONDS)
        echo(newcomer, "hello")
        newcomer.dispose()
        expect_equal(manager.property("game.service", "ActiveState"), "active", "the state")
    expect_equal(manager.property("game.service", "NRestarts"), "0", "how often systemd had to start it again")
    expect_equal(client.close(1000), 1000, "the close code")


def killed(manager):
    before = manager.property("game.service", "MainPID")
    manager.must("kill", "--signal=SIGKILL", "game.service")
    manager.wait_for("game.service", "MainPID", lambda pid: pid not in (before, "0"))
    manager.wait_for("game.service", "ActiveState", "active")
    client = raw.Client(url(manager.game), timeout=SECONDS)
    echo(client, "hello")
    expect_equal(client.close(1000), 1000, "the close code")


def enter():
    """Runs the script again where systemd seems to have booted the machine."""
    os.makedirs("/run/systemd", exist_ok=True)
    script = 'mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/system && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, *sys.argv, INSIDE]
    os.execvp(command[0], command)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        enter()
    elif len(sys.argv) == 4 and sys.argv[3] == INSIDE:
        main(*sys.argv[1:3])
    else:
        sys.exit(__doc__)
