#!/usr/bin/env python3
"""The metrics of the example `dashboard`, as Prometheus' own parser reads them: each count is compared with what was done.

usage: metrics.py DASHBOARD        exit code 0: all is as it should be
"""

import asyncio
import http.client
import json
import socket
import struct
import sys
import time

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from process import Server

PREFIX = "threadbare_server"
SECONDS = 20  # until a count must be what is wanted
ROOM = 'a "room" \\n {b="c"} \\\\'
TOPIC = f"room/{ROOM}"  # which is escaped in the text
SAID = [1, 3, 200]  # how often each person in the chat says something: so often that some callbacks are measured
failed = []


def check(name, seen, wanted):
    if seen == wanted:
        print(f"ok metrics/{name}")
    else:
        failed.append(name)
        print(f"FAIL metrics/{name} {seen!r}, not {wanted!r}")


class Monitor:
    """Fetches through one connection that stays open, as Prometheus does, and counts its requests."""

    def __init__(self, address):
        self.connection = http.client.HTTPConnection(*address, timeout=10)
        self.requests = 0

    def get(self, path):
        self.connection.request("GET", path)
        response = self.connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, f"{path}: {response.status}"
        self.requests += 1
        return response, text

    def metrics(self):
        """The samples, by name and labels. The counts do not have this request yet."""
        _, text = self.get("/metrics")
        samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name.removeprefix(PREFIX + "_"), *sorted(sample.labels.items())] = sample.value
        return samples

    def eventually(self, wanted):
        """The metrics, as soon as they have all that is wanted, or else as they are at the deadline: a worker shows its
        counts at the end of each iteration."""
        deadline = time.monotonic() + SECONDS
        while True:
            samples = self.metrics()
            if all(samples.get(key) == value for key, value in wanted.items()) or time.monotonic() > deadline:
                return samples
            time.sleep(0.05)


class Done:
    """What was done, as the server should have counted it."""

    def __init__(self):
        self.accepted = 1  # the monitor's connection
        self.upgraded = self.unanswered = 0
        self.received = self.sent = self.received_bytes = self.sent_bytes = self.published_bytes = 0
        self.responses, self.closed = {}, {}

    def client_sends(self, payload, *, message=True):
        self.received += message
        self.received_bytes += frame_size(len(payload), masked=True)

    def server_sends(self, payload, *, message=True):
        self.sent += message
        self.sent_bytes += frame_size(len(payload), masked=False)

    def ends(self, code):
        self.closed[code] = self.closed.get(code, 0) + 1

    def answered(self, status):
        self.accepted += 1
        self.responses[status] = self.responses.get(status, 0) + 1


def frame_size(length, *, masked):
    return 2 + (2 if length > 125 else 0) + (4 if masked else 0) + length


def families_are_valid(monitor):
    response, text = monitor.get("/metrics")
    media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    check("media-type", response.getheader("Content-Type"), media_type)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    check("names-have-the-prefix", [name for name in families if not name.startswith(PREFIX)], [])
    check("families-have-help", [name for name, family in families.items() if not family.documentation], [])
    kinds = {name.removeprefix(PREFIX + "_"): (family.type, family.unit) for name, family in families.items()}
    for name, kind in {
        "connections": ("gauge", ""),
        "memory_bytes": ("gauge", "bytes"),
        "queued_bytes": ("gauge", "bytes"),
        "messages_received": ("counter", ""),
        "sent_bytes": ("counter", "bytes"),
        "responses": ("counter", ""),
        "callback_seconds": ("histogram", "seconds"),
        "iteration_seconds": ("histogram", "seconds"),
    }.items():
        check(f"family-{name}", kinds.get(name), kind)
    for what, broken in [
        ("its-end", text.removesuffix("# EOF\n")),
        ("its-last-bucket", text.replace('le="+Inf"', 'le="30"')),
    ]:
        try:
            list(text_string_to_metric_families(broken))
            refused = False
        except ValueError:
            refused = True
        check(f"the-parser-refuses-the-text-without-{what}", refused, True)


async def receive(client, done, kind):
    text = await asyncio.wait_for(client.recv(), SECONDS)
    done.server_sends(text.encode())
    message = json.loads(text)
    assert message["type"] == kind, message
    return text


async def people_chat(server, monitor, done):
    """Three join a room, one after the other, and each says something that all of them get."""
    people = []
    for number in range(len(SAID)):
        client = await connect(server.url + "/ws", compression=None, ping_interval=None, proxy=None)
        done.accepted += 1
        done.upgraded += 1
        await send(client, {"type": "join", "name": f"person {number}", "room": ROOM}, done)
        await receive(client, done, "welcome")
        for other in people:
            await receive(other, done, "joined")
        people.append(client)
    for number, client in enumerate(people):
        for again in range(SAID[number]):
            # Frames with headers of both sizes.
            await send(client, {"type": "say", "text": "x" * (1 + 7 * again)}, done)
            for each in people:
                text = await receive(each, done, "said")
            done.published_bytes += frame_size(len(text.encode()), masked=False)

    samples = monitor.eventually(counts(done))
    compare("chat", samples, done)
    check("chat/connections", samples["connections",], 4)  # and the monitor's own
    check("chat/queued-bytes", samples["queued_bytes",], 0)

    # The counts of a connection are shown a little later than those of its worker.
    wanted = []
    for number, client in enumerate(people):
        host, port = client.local_address[:2]
        told = 1 + len(people) - 1 - number  # the welcome, and those who joined later
        wanted.append([f"{host}:{port}", 1 + SAID[number], told + sum(SAID), 0, True])
    wanted.sort()
    deadline = time.monotonic() + SECONDS
    while (seen := listed(monitor)) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    check("peers/addresses-and-messages", seen, wanted)
    return people


def listed(monitor):
    response, text = monitor.get("/peers")
    assert response.getheader("Content-Type") == "application/json"
    fields = ["address", "messages_received", "messages_sent", "queued_bytes", "open"]
    return sorted([peer[field] for field in fields] for peer in json.loads(text))


async def send(client, message, done):
    text = json.dumps(message)
    done.client_sends(text.encode())
    await client.send(text)


def topics_have_metrics(monitor, people, done):
    """The room is a topic, with a name that the people gave."""
    counts = {
        "subscribers": len(people),
        "published_total": sum(SAID),
        "published_bytes_total": done.published_bytes,
        "delivered_total": len(people) * sum(SAID),
        "skipped_total": 0,
        "disconnected_total": 0,
        "held_messages": min(100, sum(SAID)),  # the history
    }
    samples = monitor.eventually({("topics_delivered_total",): counts["delivered_total"]})
    for name, wanted in counts.items():
        check(f"topics/{name}-of-the-room", samples.get((f"topic_{name}", ("topic", TOPIC))), wanted)
        check(f"topics/{name}-of-all", samples.get((f"topics_{name}",)), wanted)
    check("topics/number", samples["topics",], 1)
    check("topics/held-bytes", 0 < samples["topic_held_bytes", ("topic", TOPIC)] < done.published_bytes, True)


async def people_leave(people, done):
    """Each with another code; those who are left are told so."""
    for code in [1000, 3456, 4001]:
        client = people.pop(0)
        done.client_sends(struct.pack("!H", code) + b"bye", message=False)
        done.server_sends(struct.pack("!H", code), message=False)  # the answer has the code only
        done.ends(code // 1000 * 1000)
        await client.close(code, "bye")
        for other in people:
            await receive(other, done, "left")


def raw_request(server, head):
    """The status that a request gets on a connection of its own."""
    with socket.create_connection(server.address(), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        line = connection.makefile("rb").readline()
    return int(line.split()[1])


HANDSHAKE = """GET {path} HTTP/1.1
Host: {host}
Upgrade: websocket
Connection: Upgrade
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Version: {version}
{more}
"""


def handshake(server, path="/ws", version=13, more=""):
    host, port = server.address()
    return HANDSHAKE.format(path=path, host=f"{host}:{port}", version=version, more=more)


def refusals(server, done):
    for name, head, status in [
        ("another-path", handshake(server, path="/nothing"), 404),
        ("another-version", handshake(server, version=12), 426),
        ("another-origin", handshake(server, more="Origin: http://example.com\n"), 403),
        ("another-origin-again", handshake(server, more="Origin: null\n"), 403),
        ("another-method", "POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n", 405),
        ("another-method-of-metrics", "POST /metrics HTTP/1.1\nHost: a\nContent-Length: 0\n\n", 405),
        ("no-page", "GET /nothing HTTP/1.1\nHost: a\n\n", 404),
        ("a-page", "GET /dashboard HTTP/1.1\nHost: a\n\n", 200),
    ]:
        check(f"refusals/{name}", raw_request(server, head), status)
        done.answered(status)
    socket.create_connection(server.address(), timeout=10).close()
    done.accepted += 1
    done.unanswered += 1


def violations(server, done):
    """Connections that fail, each for another reason."""
    for name, frame, code in [
        ("an-unmasked-frame", b"\x81\x01x", 1002),
        ("text-that-is-not-utf-8", b"\x81\x81\0\0\0\0\xff", 1007),
        ("a-message-that-is-too-big", b"\x82\xff" + struct.pack("!Q", 1 << 20) + b"\0\0\0\0", 1009),
        ("a-lost-connection", None, 1006),
    ]:
        with socket.create_connection(server.address(), timeout=10) as connection:
            connection.sendall(handshake(server).replace("\n", "\r\n").encode())
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1)
            if frame is None:
                # To close with this option resets the connection.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                connection.sendall(frame)
                answer = connection.makefile("rb").read(4)
                check(f"violations/{name}", struct.unpack("!H", answer[2:])[0], code)
        done.accepted += 1
        done.upgraded += 1
        done.ends(code)


def counts(done):
    """The samples that are wanted, but the bytes, and the statuses, which change with each fetch."""
    wanted = {
        ("accepted_total",): done.accepted,
        ("upgraded_total",): done.upgraded,
        ("unanswered_total",): done.unanswered,
        ("connections_opened_total",): done.upgraded,
        ("messages_received_total",): done.received,
        ("messages_sent_total",): done.sent,
        ("messages_dropped_total",): 0,
        ("messages_refused_total",): 0,
    }
    for code in [*range(1000, 1016), 3000, 4000]:
        wanted["connections_closed_total", ("code", str(code))] = done.closed.get(code, 0)
    return wanted


def compare(part, samples, done):
    for key, value in counts(done).items():
        name = "-".join(str(of) for label in key[1:] for of in label)
        check(f"{part}/{key[0]}{'-' if name else ''}{name}", samples.get(key), value)


def main():
    with Server(sys.argv[1], "127.0.0.1:0") as server:
        monitor = Monitor(server.address())
        done = Done()
        families_are_valid(monitor)
        asyncio.run(chat_and_leave(server, monitor, done))
        refusals(server, done)
        violations(server, done)

        samples = monitor.eventually({**counts(done), ("connections",): 1})
        compare("end", samples, done)
        check("end/connections", samples["connections",], 1)
        statuses = {int(key[1][1]): value for key, value in samples.items() if key[0] == "responses_total"}
        done.responses[200] += monitor.requests - 1  # the last one is counted after it has been made
        check("end/responses-by-status", statuses, done.responses)
        check("end/iterations", samples["iteration_seconds_count",] > 0, True)
        callbacks = samples["callback_seconds_count",]
        # Of 64 reads one is measured.
        check("end/callbacks", max(SAID) // 64 <= callbacks <= done.received, True)
        check("end/round-trips", samples["round_trip_seconds_count",], 0)
    sys.exit(1 if failed else 0)


async def chat_and_leave(server, monitor, done):
    people = await people_chat(server, monitor, done)
    topics_have_metrics(monitor, people, done)
    await people_leave(people, done)
    samples = monitor.eventually({
        **counts(done),
        ("received_bytes_total",): done.received_bytes,
        ("sent_bytes_total",): done.sent_bytes,
    })
    check("leave/received_bytes_total", samples["received_bytes_total",], done.received_bytes)
    check("leave/sent_bytes_total", samples["sent_bytes_total",], done.sent_bytes)


if __name__ == "__main__":
    main()
