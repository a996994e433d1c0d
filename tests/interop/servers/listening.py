"""Where the Python servers listen."""

import socket

# Left to itself the kernel lets a hundred thousand small messages pile up before a slow reader, and a pong comes behind
# them.
RECEIVE_BUFFER = 128 << 10


def listener():
    """A listening socket on a free port, whose connections hold the client back while the server does not read."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock
