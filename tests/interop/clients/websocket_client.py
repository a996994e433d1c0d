"""A client with the `websocket-client` package."""

import struct

import websocket
from websocket import ABNF

from clients import raw
from clients.trust import context


class Client:
    name = "websocket-client"

    def __init__(self, url, large=False):
        # The package's UTF-8 check is slow for 16 MiB. The check compares the whole message in any case.
        self.ws = websocket.create_connection(
            url, timeout=20, skip_utf8_validation=large, http_no_proxy=["*"], sslopt={"context": context(url)}
        )

    def send(self, data):
        self.ws.send(data, ABNF.OPCODE_TEXT if isinstance(data, str) else ABNF.OPCODE_BINARY)

    def recv(self):
        opcode, data = self.ws.recv_data()
        if opcode == ABNF.OPCODE_CLOSE:
            raise ConnectionError(f"closed with {data!r}")
        return data.decode() if opcode == ABNF.OPCODE_TEXT else bytes(data)

    def send_fragments(self, parts, text, ping):
        opcode = ABNF.OPCODE_TEXT if text else ABNF.OPCODE_BINARY
        self.ws.send_frame(ABNF.create_frame(parts[0], opcode, 0))
        self.ws.ping(ping)
        opcode, frame = self.ws.recv_data_frame(control_frame=True)
        if (opcode, bytes(frame.data)) != (ABNF.OPCODE_PONG, ping):
            raise ConnectionError(f"wanted the pong, got opcode {opcode} with {frame.data!r}")
        for number, part in enumerate(parts[1:], 2):
            self.ws.send_frame(ABNF.create_frame(part, ABNF.OPCODE_CONT, int(number == len(parts))))

    def close(self, code, reason=""):
        self.ws.send_close(code, reason.encode())
        answered = self.wait_closed()
        self.ws.shutdown()
        return answered

    def wait_closed(self):
        while True:
            frame = self.ws.recv_frame()
            if frame.opcode == ABNF.OPCODE_CLOSE:
                return struct.unpack("!H", frame.data[:2])[0] if frame.data else None

    def abort(self, mid_frame):
        if mid_frame:
            self.ws.sock.sendall(raw.half_a_frame())
        else:
            raw.reset(self.ws.sock)
        self.ws.shutdown()

    def dispose(self):
        self.ws.shutdown()
