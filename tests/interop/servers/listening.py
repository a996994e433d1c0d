"""The listening socket of the Python servers."""

import socket

# By default the kernel queues a hundred thousand small messages for a slow server, and a pong waits behind them.
RECEIVE_BUFFER = 128 << 10


def listener():
    """A listening socket on a free port, whose connections have a small receive buffer."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock
