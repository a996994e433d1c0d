"""Starts an example and reads its output."""

import contextlib
import ctypes
import os
import queue
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

from report import expect_equal


def raise_file_limit(wanted):
    """Raises the limit of open files, which child processes inherit; raises an error if it cannot."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))  # allowed for root
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def exit_on_sigterm():
    """Turns SIGTERM into a normal exit, so that `finally` and `with` end the servers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))


def adopt_orphans():
    """Makes the processes whose parents have ended the children of this one, which can wait for them."""
    PR_SET_CHILD_SUBREAPER = 36
    expect_equal(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0, "prctl")


def free_port():
    """A port that nobody has at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Process:
    """A child process, `self.process`, that ends with the block of a `with`."""

    # How long it has to end when it is asked to.
    patience = 2

    def kill(self):
        """Ends the process, which may have others to end first."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(self.patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Server(Process):
    """A running example, and the URLs of the lines `listening on URL` that it prints, by scheme."""

    def __init__(self, binary, *arguments, schemes=("ws",), seconds=10):
        self.process = subprocess.Popen(
            [binary, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.process.pid
        self.lines = queue.Queue()
        self.urls = {}
        threading.Thread(target=self._read, daemon=True).start()
        deadline = time.monotonic() + seconds
        try:
            while not all(scheme in self.urls for scheme in schemes):
                line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
                if line is None:
                    raise RuntimeError(f"{binary} ended with {self.process.wait()} before it listened")
                found = re.match(r"listening on ((\w+)://\S+:\d+)", line)
                if found:
                    self.urls[found[2]] = found[1]
        except queue.Empty:
            self.kill()
            raise RuntimeError(f"{binary} did not print `listening on` within {seconds} s") from None
        except BaseException:
            self.kill()
            raise
        self.url = self.urls[schemes[0]]

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def address(self, scheme="ws"):
        """The (host, port) of the URL with this scheme."""
        return split(self.urls[scheme])

    def status(self):
        """The memory in bytes, now and at its peak (`VmHWM`), and the number of threads, as the kernel counts them."""
        with open(f"/proc/{self.pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return {
            "VmRSS": int(fields["VmRSS"].split()[0]) * 1024,
            "VmHWM": int(fields["VmHWM"].split()[0]) * 1024,
            "RssAnon": int(fields["RssAnon"].split()[0]) * 1024,
            "threads": len(os.listdir(f"/proc/{self.pid}/task")),
        }

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds):
        return self.process.wait(timeout=seconds)


@contextlib.contextmanager
def checked_server(report, name, binary, *arguments):
    """A server for the block of a `with`. It starts and ends in checks; the script ends if it does not start."""
    server = None
    with report.check(f"{name}/starts", 15):
        server = Server(binary, "127.0.0.1:0", *arguments)
    if server is None:
        report.exit()
    with server:
        yield server
        with report.check(f"{name}/graceful", 15):
            server.signal(signal.SIGTERM)
            expect_equal(server.wait(10), 0, "the exit status")


def split(url):
    """`ws://127.0.0.1:8080` to ("127.0.0.1", 8080)."""
    return address_of(url.split("://", 1)[1].rstrip("/"))


def address_of(text):
    """`127.0.0.1:8080` to ("127.0.0.1", 8080)."""
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)
