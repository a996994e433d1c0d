#!/usr/bin/env python3
"""Checks an echo server over TLS with curl.

    curl.py ADDRESS --ca FILE        curl.py wss://127.0.0.1:8080 --ca ca.pem

curl speaks WebSocket only if it was built so (`curl --version` lists ws and wss). Every curl can do the opening handshake
as an upgrade of HTTP/1.1, and shows what TLS agreed on.
"""

import argparse
import subprocess

from process import exit_on_sigterm, split
from report import Report, expect, expect_equal

# The example of RFC 6455 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
UPGRADE = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}"]
SECONDS = "10"


def curl(*arguments, status=0):
    """What curl prints, without that of its errors. It must end with `status`."""
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", SECONDS, *arguments]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    expect(ended.returncode == status, f"curl ended with {ended.returncode}: {ended.stderr.strip()}")
    return ended.stdout


def head_of_upgrade(url, ca, *arguments):
    """The head that answers an upgrade. curl is ended behind it, for it would wait for the end of the connection."""
    headers = [flag for header in UPGRADE for flag in ("--header", header)]
    # What it writes with --verbose is not held back, as the output is.
    command = ["curl", "--silent", "--verbose", "--noproxy", "*", "--max-time", SECONDS, "--cacert", ca, "--http1.1"]
    command += [*headers, *arguments, url]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            if line.startswith("< "):
                lines.append(line[2:].strip())
                if not lines[-1]:
                    break
        process.kill()
    expect(lines, "curl shows no answer")
    return lines[:-1]


def upgrade(url, ca, *arguments):
    status, *headers = head_of_upgrade(url, ca, *arguments)
    expect(status.startswith("HTTP/1.1 101"), f"answered {status}")
    expect(f"sec-websocket-accept: {ACCEPT}".lower() in [header.lower() for header in headers], f"headers: {headers}")


def main():
    exit_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--ca", metavar="FILE", required=True)
    options = parser.parse_args()
    host, port = split(options.address)
    by_ip, by_name = f"https://{host}:{port}/", f"https://localhost:{port}/"
    report = Report()
    with report.check("curl/upgrade"):
        upgrade(by_ip, options.ca)
    for version in ("1.2", "1.3"):
        with report.check(f"curl/upgrade-tls-{version}"):
            upgrade(by_name, options.ca, f"--tlsv{version}", "--tls-max", version)
    with report.check("curl/http2-is-not-agreed-on"):
        written = ["--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"]
        # Plain HTTP to a server that has only WebSocket: 426.
        expect_equal(curl("--cacert", options.ca, "--http2", *written, by_name), "1.1 426", "version and status")
    with report.check("curl/unknown-issuer"):
        curl(by_name, status=60)
    with report.check("curl/plain-http-is-answered-400"):
        answer = curl("--write-out", "%{http_code}", "--output", "/dev/null", f"http://{host}:{port}/")
        expect_equal(answer, "400", "the status")
    protocols = curl("--version").split("Protocols:")[1].splitlines()[0].split()
    if "wss" in protocols:
        with report.check("curl/wss"):
            # It opens the connection, and waits for messages: 28 is the end of its time.
            curl("--http1.1", "--cacert", options.ca, "--max-time", "1", f"wss://localhost:{port}/", status=28)
    else:
        print("   (this curl has no wss: it was built with " + " ".join(protocols) + ")", flush=True)
    report.exit()


if __name__ == "__main__":
    main()
