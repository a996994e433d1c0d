"""The listening socket of the Python servers, and their TLS."""

import socket
import ssl

# By default the kernel queues a hundred thousand small messages for a slow server, and a pong waits behind them.
RECEIVE_BUFFER = 128 << 10


def listener():
    """A listening socket on a free port, whose connections have a small receive buffer."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return sock


def add_tls_arguments(parser):
    parser.add_argument("--cert", metavar="FILE", help="speak TLS with this certificate")
    parser.add_argument("--key", metavar="FILE", help="its private key")


def tls(options):
    """The context of a server with `--cert` and `--key`, None without."""
    if not options.cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.cert, options.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def announce(context, port):
    print(f"listening on {'wss://localhost' if context else 'ws://127.0.0.1'}:{port}", flush=True)
