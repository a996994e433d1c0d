#!/usr/bin/env python3
"""Checks a server behind nginx and HAProxy, with the configurations of docs/proxies/.

    proxies.py BINARY        proxies.py target/release/examples/interop_whoami
"""

import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import websockets.sync.client

import payloads
from process import Process, Server, address_of, exit_on_sigterm, free_port
from report import Report, expect, expect_equal

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "proxies")

# Clients come from here, and the proxies from 127.0.0.1, so that the two can be told apart.
CLIENT = "127.0.0.7"

# The timeouts of a proxy in the check of silent connections, in place of 60 s, and the server's interval between pings.
PROXY_TIMEOUT = 3
PING_INTERVAL = 1

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/site.conf;
}}
"""


def certificate(directory):
    """A certificate and its key, each in a file and both in one."""
    key, chain, both = (os.path.join(directory, name) for name in ("key.pem", "chain.pem", "both.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain],
        check=True,
        capture_output=True,
    )
    with open(both, "w") as file:
        for part in (chain, key):
            with open(part) as source:
                file.write(source.read())
    return chain, key, both


class Proxy(Process):
    """nginx or HAProxy with a configuration of docs/proxies/, with other ports, paths and timeouts."""

    patience = 10

    def __init__(self, name, server, directory, certificate, changes=()):
        self.directory = os.path.join(directory, f"{name}-{time.monotonic_ns()}")
        os.mkdir(self.directory)
        self.port = free_port()
        with open(os.path.join(DOCS, name)) as file:
            self.config = file.read()
        host, port = server.address()
        chain, key, both = certificate
        self.replace("127.0.0.1:8080", f"{host}:{port}")
        for before, after in changes:
            self.replace(before, after)
        if name.startswith("nginx"):
            self.replace("listen 443", f"listen 127.0.0.1:{self.port}")
            self.replace("/etc/ssl/example.com.pem", chain)
            self.replace("/etc/ssl/example.com.key", key)
            self.write("site.conf", self.config)
            path = self.write("nginx.conf", NGINX.format(directory=self.directory))
            command = ["nginx", "-c", path, "-e", "stderr"]
        else:
            self.replace("bind :443", f"bind 127.0.0.1:{self.port}")
            self.replace("/etc/haproxy/example.com.pem", both)
            path = self.write("haproxy.cfg", self.config)
            command = ["haproxy", "-db", "-f", path]
        self.log = open(os.path.join(self.directory, "log"), "w+b")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.context = ssl.create_default_context(cafile=chain)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"{name} does not listen: {self.logged()}") from None
                time.sleep(0.05)

    def replace(self, before, after):
        expect(before in self.config, f"{before!r} is not in the configuration")
        self.config = self.config.replace(before, after)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def logged(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def status(self):
        """The status with which the server answers a client. It may answer before the client has sent its request."""
        with self.context.wrap_socket(self.tcp(), server_hostname="localhost") as sock:
            sock.sendall(REQUEST)
            answer = b""
            while len(answer) < 12:
                answer += sock.recv(12 - len(answer)) or b"\n" * 12
            return int(answer[9:12])

    def tcp(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(CLIENT, 0))

    def connect(self, **arguments):
        """A client and its address."""
        sock = self.tcp()
        address = sock.getsockname()
        client = websockets.sync.client.connect(
            "wss://localhost/", sock=sock, ssl=self.context, server_hostname="localhost", proxy=None, legacy=True, **arguments
        )
        return client, address


def received_addresses(client):
    """The addresses of the client and of the proxy, as the server sees them."""
    return [address_of(word) for word in client.recv(timeout=10).split(" ")]


def check_proxy(report, name, binary, directory, certificate, config, flags, port_is_known, changes=()):
    """The checks of one configuration, against a server with these flags."""
    arguments = ["127.0.0.1:0", *flags, "--per-address", "2"]
    with Server(binary, *arguments) as server:
        proxy = None
        with report.check(f"{name}/starts", 15):
            proxy = Proxy(config, server, directory, certificate, changes)
        if proxy is None:
            return
        with proxy:
            with report.check(f"{name}/echo-and-the-client's-address", 30):
                client, (host, port) = proxy.connect()
                with client:
                    seen, through = received_addresses(client)
                    expect_equal(seen, (host, port if port_is_known else 0), "the client's address")
                    expect_equal(through[0], "127.0.0.1", "the proxy's address")
                    for size in (0, 1, 125, 126, 65535, 65536, 300_000):
                        for message in (payloads.binary(size), "x" * size):
                            client.send(message)
                            expect_equal(client.recv(timeout=10), message, f"the echo of {size}")
                    expect(client.ping().wait(10), "no pong")
            with report.check(f"{name}/a-forged-header-is-not-believed", 15):
                forged = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
                client, (host, _) = proxy.connect(additional_headers=forged)
                with client:
                    expect_equal(received_addresses(client)[0][0], host, "the client's address")
            with report.check(f"{name}/the-limit-is-for-the-client's-address", 15):
                first, second = proxy.connect()[0], proxy.connect()[0]
                with first, second:
                    received_addresses(first), received_addresses(second)
                    expect_equal(proxy.status(), 503, "the status for a third connection of the client")
                    first.send("still here")
                    expect_equal(first.recv(timeout=10), "still here", "the echo")
    with report.check(f"{name}/a-silent-connection-stays", 60):
        with Server(binary, *arguments, "--idle-timeout", str(PING_INTERVAL)) as server:
            with Proxy(config, server, directory, certificate, [*changes, ("60s", f"{PROXY_TIMEOUT}s")]) as proxy:
                # The client itself sends no pings.
                client, _ = proxy.connect(ping_interval=None)
                with client:
                    received_addresses(client)
                    try:
                        client.recv(timeout=PROXY_TIMEOUT * 2.5)
                        raise AssertionError("a message")
                    except TimeoutError:
                        pass
                    client.send("still here")
                    expect_equal(client.recv(timeout=10), "still here", "the echo")


def main(binary):
    exit_on_sigterm()
    report = Report()
    forwarded = ["--x-forwarded-for", "127.0.0.1"]
    proxied = ["--proxy-protocol", "127.0.0.1"]
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        files = None
        with report.check("proxies/certificate", 30):
            files = certificate(directory)
        if files is None:
            report.exit()
        common = (binary, directory, files)
        check_proxy(report, "nginx", *common, "nginx.conf", forwarded, False)
        check_proxy(report, "haproxy-http", *common, "haproxy-http.cfg", forwarded, False)
        check_proxy(report, "haproxy-proxy-v2", *common, "haproxy-tcp.cfg", proxied, True)
        version_1 = [("send-proxy-v2", "send-proxy")]
        check_proxy(report, "haproxy-proxy-v1", *common, "haproxy-tcp.cfg", proxied, True, version_1)
    report.exit()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
