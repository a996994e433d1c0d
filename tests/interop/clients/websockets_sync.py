"""A client with the threading API of the `websockets` package."""

import contextlib
import logging
import socket
import ssl

import websockets.exceptions
import websockets.sync.client

from clients import raw
from clients.trust import context

# The package logs an error when the test closes its socket.
logging.getLogger("websockets.client").setLevel(logging.CRITICAL + 1)


# Two threads of the package use one connection of TLS at the same time, which Python before 3.13 does not lock. With
# TLS 1.3 now and then what one of them sends is lost, when the other one receives the server's ticket.
TLS_VERSION = ssl.TLSVersion.TLSv1_2


class Client:
    name = "websockets-sync"

    def __init__(self, url, large=False):
        self.ws = websockets.sync.client.connect(
            url, max_size=None, proxy=None, legacy=True, ssl=context(url, TLS_VERSION)
        )

    def send(self, data):
        self.ws.send(data)

    def recv(self):
        return self.ws.recv(timeout=20)

    def send_fragments(self, parts, text, ping):
        def fragments():
            yield parts[0]
            if not self.ws.ping(ping).wait(10):
                raise TimeoutError("no pong before the end of the message")
            yield from parts[1:]

        self.ws.send(fragments(), text=text)

    def stream_back(self, parts, text, ping):
        """Sends a message in these parts, each when the one before has come back, and returns what comes back."""
        received = b""

        def come_back(size):
            nonlocal received
            while len(received) < size:
                received += next(fragments)

        fragments = self.ws.recv_streaming(decode=False)

        def pieces():
            sent = 0
            for part in parts:
                yield part
                if not self.ws.ping(ping).wait(10):
                    raise TimeoutError("no pong before the end of the message")
                sent += len(part)
                come_back(sent)

        self.ws.send(pieces(), text=text)
        return received + b"".join(fragments)

    def close(self, code, reason=""):
        self.ws.close(code, reason)
        return self._answered()

    def wait_closed(self):
        try:
            self.ws.recv(timeout=20)
        except websockets.exceptions.ConnectionClosed:
            return self._answered()
        raise ConnectionError("a message instead of the close")

    def _answered(self):
        received = self.ws.protocol.close_rcvd
        return None if received is None else int(received.code)

    def abort(self, mid_frame):
        if mid_frame:
            self.ws.socket.sendall(raw.half_a_frame())
        else:
            raw.reset(self.ws.socket)
        if isinstance(self.ws.socket, ssl.SSLSocket):
            # The package's thread reads from this socket, and after the close from the next one with its number.
            with contextlib.suppress(OSError):  # the thread has met the end and closed it
                self.ws.socket.shutdown(socket.SHUT_RDWR)
            self.ws.recv_events_thread.join()
        self.ws.close_socket()

    def dispose(self):
        self.ws.close_socket()
