"""A client on a socket, which can send what the libraries refuse to send."""

import base64
import hashlib
import os
import socket
import ssl
import struct
import zlib

from clients.trust import context
from process import split

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

RSV1 = 0x40
DEFLATE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def frame(opcode, payload=b"", fin=True, rsv=0):
    """The bytes of a masked frame (RFC 6455 5.3)."""
    head = bytes([opcode | rsv | (0x80 if fin else 0)])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    key = os.urandom(4)
    return head + key + masked(payload, key)


def masked(payload, key):
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def half_a_frame():
    """The first bytes of a frame, of which the rest is not sent."""
    return frame(BINARY, b"x" * 1000)[:500]


def reset(sock):
    """Makes the next close of the socket send RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def deflated(payload):
    """Compresses the payload of a message without context takeover (RFC 7692 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    out = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    assert out.endswith(b"\0\0\xff\xff")
    return out[:-4]


def inflated(payload):
    """Inflates a message that was compressed without context takeover (RFC 7692 7.2.2)."""
    decompressor = zlib.decompressobj(wbits=-15)
    return decompressor.decompress(payload + b"\0\0\xff\xff") + decompressor.flush()


def request(host, port, key, extensions=None):
    offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
    return (
        f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    ).encode()


class Client:
    name = "raw"

    def __init__(self, url, large=False, timeout=20, source=None, extensions=None):
        host, port = split(url)
        self.socket = socket.create_connection((host, port), timeout=timeout, source_address=source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls := context(url):
            # An end of TCP without the end of TLS (RFC 8446 6.1) is an error.
            self.socket = tls.wrap_socket(self.socket, server_hostname=host, suppress_ragged_eofs=False)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(request(host, port, key, extensions))
        self.buffer = bytearray()
        self.deflate = False
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        status, *lines = head.decode("latin-1").split("\r\n")
        if not status.startswith("HTTP/1.1 101"):
            raise ConnectionError(f"refused: {status}")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        wanted = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        if headers.get("sec-websocket-accept") != wanted:
            raise ConnectionError("wrong Sec-WebSocket-Accept")
        if extensions and headers.get("sec-websocket-extensions") != extensions:
            raise ConnectionError(f"offered {extensions}, got {headers.get('sec-websocket-extensions')}")
        self.deflate = extensions == DEFLATE

    def _more(self):
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise EOFError("the server closed the connection")
        self.buffer += piece

    def _take(self, size):
        while len(self.buffer) < size:
            self._more()
        piece = bytes(memoryview(self.buffer)[:size])
        del self.buffer[:size]
        return piece

    def recv_frame(self):
        first, second = self._take(2)
        if second & 0x80:
            raise ConnectionError("the server masked a frame (RFC 6455 5.1)")
        if first & 0x70 & ~(RSV1 if self.deflate else 0):
            raise ConnectionError("a reserved bit is set (RFC 6455 5.2)")
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", self._take(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", self._take(8))[0]
        self.compressed = bool(first & RSV1)
        return first & 0x0F, bool(first & 0x80), self._take(size)

    def recv(self):
        message, kind = b"", None
        while True:
            opcode, fin, payload = self.recv_frame()
            if opcode == PING:
                self.socket.sendall(frame(PONG, payload))
            elif opcode == CLOSE:
                raise ConnectionError(f"closed with {payload!r}")
            elif opcode != PONG:
                kind = kind or opcode
                message = message + payload if message else payload
                if fin:
                    return message.decode() if kind == TEXT else message

    def send(self, data):
        if isinstance(data, str):
            self.socket.sendall(frame(TEXT, data.encode()))
        else:
            self.socket.sendall(frame(BINARY, data))

    def send_deflated(self, text):
        """Sends a compressed text message."""
        self.socket.sendall(frame(TEXT, deflated(text.encode()), rsv=RSV1))

    def recv_deflated(self):
        """Receives a frame, which must be an unfragmented and compressed text message."""
        opcode, fin, payload = self.recv_frame()
        if (opcode, fin, self.compressed) != (TEXT, True, True):
            raise ConnectionError(f"not a compressed text: opcode {opcode}, FIN {fin}, RSV1 {self.compressed}")
        return inflated(payload).decode()

    def send_fragments(self, parts, text, ping):
        """Sends `parts` as the fragments of one message, with a ping after the first. Its pong must be
        received before the message is complete."""
        opcode = TEXT if text else BINARY
        self.socket.sendall(frame(opcode, parts[0], fin=False))
        self.socket.sendall(frame(PING, ping))
        opcode, _, payload = self.recv_frame()
        if (opcode, payload) != (PONG, ping):
            raise ConnectionError(f"wanted the pong, got opcode {opcode} with {payload!r}")
        for number, part in enumerate(parts[1:], 2):
            self.socket.sendall(frame(0, part, fin=number == len(parts)))

    def close(self, code, reason=""):
        """Closes with `code`; returns the code of the answer. The server must close TCP first, with FIN
        (RFC 6455 7.1.1), and TLS before it."""
        self.socket.sendall(frame(CLOSE, struct.pack("!H", code) + reason.encode()))
        while True:
            opcode, _, payload = self.recv_frame()
            if opcode == CLOSE:
                break
        if self.buffer or self.socket.recv(1) != b"":
            raise ConnectionError("bytes after the close frame (RFC 6455 5.5.1)")
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket = self.socket.unwrap()
            try:
                if self.socket.recv(1) != b"":
                    raise ConnectionError("bytes after the end of TLS (RFC 8446 6.1)")
            except ConnectionResetError:
                pass  # our own end of TLS came to a socket that was closed in order
        self.socket.close()
        return struct.unpack("!H", payload[:2])[0] if payload else None

    def wait_closed(self):
        """Waits for a close frame, without answering; returns its code."""
        while True:
            opcode, _, payload = self.recv_frame()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0] if payload else None

    def abort(self, mid_frame):
        """Ends the connection without a closing handshake: by RST, or by FIN in the middle of a frame."""
        if mid_frame:
            self.socket.sendall(half_a_frame())
        else:
            reset(self.socket)
        self.socket.close()

    def dispose(self):
        self.socket.close()
