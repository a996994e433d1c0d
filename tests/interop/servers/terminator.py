#!/usr/bin/env python3
"""The server with Node's `ws` package behind a program that ends TLS in front of it; see README.md.

    terminator.py nginx|stunnel --deflate off|alone|takeover --cert FILE --key FILE
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent

NGINX = """\
daemon off;
worker_processes 1;
pid {directory}/pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://127.0.0.1:{behind};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""

STUNNEL = """\
foreground = yes
pid =
debug = err
[wss]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{behind}
cert = {cert}
key = {key}
"""

PROGRAMS = {
    "nginx": (NGINX, "nginx.conf", lambda path: ["nginx", "-p", os.path.dirname(path), "-e", "stderr", "-c", path]),
    "stunnel": (STUNNEL, "stunnel.conf", lambda path: ["stunnel", path]),
}


def free_port():
    # Below the system's ephemeral ports, of which a connection could take one before the program listens on it.
    for port in random.sample(range(10_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    sys.exit("no free port")


def wait_for(port, program, seconds=10):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and program.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{program.args[0]} does not listen (status {program.poll()})")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--deflate", required=True)
    parser.add_argument("--cert", type=os.path.abspath, required=True)
    parser.add_argument("--key", type=os.path.abspath, required=True)
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="threadbare-")
    os.chmod(directory, 0o755)
    children = []
    try:
        server = subprocess.Popen(
            ["node", HERE / "ws_server.mjs", "--deflate", options.deflate], stdout=subprocess.PIPE, text=True
        )
        children.append(server)
        behind = server.stdout.readline().rstrip().rsplit(":", 1)[1]
        template, name, command = PROGRAMS[options.program]
        port = free_port()
        path = os.path.join(directory, name)
        with open(path, "w") as file:
            file.write(
                template.format(directory=directory, port=port, behind=behind, cert=options.cert, key=options.key)
            )
        program = subprocess.Popen(command(path))
        children.insert(0, program)
        wait_for(port, program)
        print(f"listening on wss://localhost:{port}", flush=True)
        sys.exit(program.wait())
    finally:
        for child in children:
            child.terminate()
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
