#!/usr/bin/env python3
"""Checks the example `json_rpc`: the tokens, and JSON-RPC 2.0 as its specification has it.

    json_rpc.py BINARY        json_rpc.py target/release/examples/json_rpc
"""

import concurrent.futures
import http.client
import json
import sys
import tempfile
import time

import websockets.exceptions
import websockets.sync.client

from process import checked_server, exit_on_sigterm
from report import Report, expect, expect_equal

USERS = {"ada": "token-of-ada-0123456789", "bob": "token-of-bob-0123456789"}
CHECK_TIME = 0.4  # seconds
CHECKERS = 6


def connect(server, user="ada", authorization=None):
    authorization = authorization or f"Bearer {USERS[user]}"
    headers = {} if authorization == "none" else {"Authorization": authorization}
    return websockets.sync.client.connect(server.url, proxy=None, legacy=True, additional_headers=headers)


def ask(client, message):
    """Sends what is JSON, or text as it is; returns the answer."""
    client.send(message if isinstance(message, str) else json.dumps(message))
    return json.loads(client.recv(timeout=10))


def request(method, *params, id=1, **named):
    return {"jsonrpc": "2.0", "method": method, "params": named or list(params), "id": id}


def without(request, *names):
    return {name: value for name, value in request.items() if name not in names}


def result(value, id=1):
    return {"jsonrpc": "2.0", "result": value, "id": id}


def expect_error(answer, code, message, id):
    expect_equal(sorted(answer), ["error", "id", "jsonrpc"], "the members of the answer")
    expect_equal(answer["jsonrpc"], "2.0", "the version")
    expect_equal((answer["error"]["code"], answer["error"]["message"]), (code, message), "the error")
    expect_equal(answer["id"], id, "the id")


def tokens(report, server):
    def refused(name, authorization, challenge, error):
        with report.check(f"json-rpc/{name}-is-answered-401", 20):
            try:
                connect(server, authorization=authorization)
                raise AssertionError("the handshake is accepted")
            except websockets.exceptions.InvalidStatus as status:
                response = status.response
            expect_equal(response.status_code, 401, "the status")
            expect_equal(response.headers["WWW-Authenticate"], challenge, "the challenge")
            expect_equal(response.headers["Content-Type"], "application/json", "the type of the content")
            expect_equal(json.loads(response.body), {"error": error}, "the content")

    want = 'Bearer realm="json_rpc"'
    invalid = f'{want}, error="invalid_token"'
    refused("no-token", "none", want, "unauthorized")
    refused("another-scheme", "Basic YWRhOmFkYQ==", want, "unauthorized")
    refused("an-empty-token", "Bearer ", want, "unauthorized")
    refused("a-wrong-token", "Bearer token-of-carl-0123456789", invalid, "invalid_token")
    refused("a-part-of-a-token", f"Bearer {USERS['ada'][:-1]}", invalid, "invalid_token")
    refused("the-name-instead-of-the-token", "Bearer ada", invalid, "invalid_token")
    with report.check("json-rpc/each-connection-knows-its-user", 20):
        with connect(server, "ada") as ada, connect(server, "bob") as bob:
            expect_equal(ask(bob, request("whoami")), result("bob"), "who Bob is")
            expect_equal(ask(ada, request("whoami")), result("ada"), "who Ada is")
    with report.check("json-rpc/the-name-of-the-scheme-has-no-case", 20):
        with connect(server, authorization=f"bEARER {USERS['bob']}") as client:
            expect_equal(ask(client, request("whoami")), result("bob"), "who it is")
    with report.check("json-rpc/others-do-not-wait-for-a-check", 30):
        established = connect(server)
        start = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(CHECKERS) as pool:
            connecting = [pool.submit(connect, server) for _ in range(CHECKERS)]
            # What these ask is answered while all checkers are busy, by the thread that accepts and by a worker.
            answered = 0
            while not any(future.done() for future in connecting):
                plain = http.client.HTTPConnection(*server.address(), timeout=10)
                plain.request("GET", "/health")
                expect_equal(plain.getresponse().read(), b"up\n", "the health")
                plain.close()
                expect_equal(ask(established, request("add", 1, 2)), result(3), "a sum")
                answered += 1
            clients = [future.result() for future in connecting]
        took = time.monotonic() - start
        expect(answered >= 5, f"{answered} were answered meanwhile")
        expect(took >= CHECK_TIME, f"the checks took {took} s")
        # One after the other, they would take as long as this at least.
        expect(took < CHECKERS * CHECK_TIME, f"the checks took {took} s")
        for client in [established, *clients]:
            client.close()


def calls(report, client):
    def answers(name, message, wanted):
        with report.check(f"json-rpc/{name}", 15):
            expect_equal(ask(client, message), wanted, "the answer")

    def fails(name, message, code, text, id=1):
        with report.check(f"json-rpc/{name}", 15):
            expect_error(ask(client, message), code, text, id)

    def silent(name, message):
        with report.check(f"json-rpc/{name}-is-not-answered", 15):
            client.send(json.dumps(message))
            expect_equal(ask(client, request("add", 1, 1, id="next")), result(2, "next"), "the next answer")

    add = request("add", 19, 23)
    answers("params-by-position", add, result(42))
    answers("params-by-name", request("add", b=23, a=19), result(42))
    answers("an-empty-array-of-params", request("whoami"), result("ada"))
    answers("no-params", without(request("whoami"), "params"), result("ada"))
    for id in ["text", 0, -1, 1.5, None, 2**53 + 1]:
        answers(f"id-{id}-comes-back", {**add, "id": id}, result(42, id))
    silent("a-notification", without(add, "id"))
    silent("a-notification-of-an-unknown-method", without(request("nothing"), "id"))
    silent("a-notification-with-wrong-params", without(request("add", "x"), "id"))

    parse = (-32700, "Parse error", None)
    for number, text in enumerate(['{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', "", "[1,", "{} {}", "[" * 9999]):
        fails(f"text-{number}-that-is-no-json", text, *parse)
    fails("a-batch-that-is-no-json", '[{"jsonrpc": "2.0", "method": "add"}, {"jsonrpc": "2.0", "method"]', *parse)

    invalid = (-32600, "Invalid Request")
    fails("a-method-that-is-a-number", {"jsonrpc": "2.0", "method": 1, "params": "bar"}, *invalid, None)
    for number, message in enumerate(["1", '"text"', "null", "true", {}, {"foo": "boo"}]):
        fails(f"json-{number}-that-is-no-request", message, *invalid, None)
    fails("no-version", without(add, "jsonrpc"), *invalid)
    fails("another-version", {**add, "jsonrpc": "1.0"}, *invalid)
    fails("a-version-that-is-a-number", {**add, "jsonrpc": 2.0}, *invalid)
    fails("no-method", without(add, "method"), *invalid)
    fails("params-that-are-a-text", {**add, "params": "bar"}, *invalid)
    fails("params-that-are-null", {**add, "params": None}, *invalid)
    for id in [[], {}, True]:
        fails(f"an-id-that-is-{type(id).__name__}", {**add, "id": id}, *invalid, None)

    fails("an-unknown-method", request("foobar"), -32601, "Method not found")
    fails("a-method-in-capitals", request("ADD", 1, 2), -32601, "Method not found")

    params = (-32602, "Invalid params")
    fails("too-few-params", request("add", 1), *params)
    fails("too-many-params", request("add", 1, 2, 3), *params)
    fails("params-of-the-wrong-type", request("add", 1, "2"), *params)
    fails("a-number-with-a-fraction", request("add", 1, 2.5), *params)
    fails("a-sum-that-is-too-large", request("add", 2**63 - 1, 1), *params)
    fails("missing-params", without(add, "params"), *params)
    fails("a-param-with-another-name", request("add", a=1, c=2), *params)
    fails("a-param-that-is-unknown", request("add", a=1, b=2, c=3), *params)
    fails("params-for-a-method-without", request("whoami", 1), *params)
    fails("a-param-for-a-method-without", request("whoami", x=1), *params)
    fails("an-empty-topic", request("subscribe", ""), *params)
    fails("a-long-topic", request("subscribe", "x" * 101), *params)


def batches(report, client):
    add = request("add", 1, 2)
    with report.check("json-rpc/batch-of-each-kind", 15):
        answer = ask(client, [
            {**add, "id": "1"},
            without(request("publish", "nobody", 7), "id"),
            request("add", 42, -23, id="2"),
            {"foo": "boo"},
            request("foo.get", name="myself", id="5"),
            without(request("whoami", id="9"), "params"),
            request("add", 1, id=3),
        ])
        expect_equal(len(answer), 6, "the number of answers")
        by_id = {part["id"]: part for part in answer}
        expect_equal(by_id["1"], result(3, "1"), "the first")
        expect_equal(by_id["2"], result(19, "2"), "the second")
        expect_error(by_id[None], -32600, "Invalid Request", None)
        expect_error(by_id["5"], -32601, "Method not found", "5")
        expect_equal(by_id["9"], result("ada", "9"), "the last but one")
        expect_error(by_id[3], -32602, "Invalid params", 3)
    with report.check("json-rpc/empty-batch", 15):
        expect_error(ask(client, []), -32600, "Invalid Request", None)
    with report.check("json-rpc/batch-of-what-is-no-request", 15):
        answer = ask(client, [1, 2, 3])
        expect_equal(len(answer), 3, "the number of answers")
        for part in answer:
            expect_error(part, -32600, "Invalid Request", None)
    with report.check("json-rpc/batch-in-a-batch-is-no-request", 15):
        [part] = ask(client, [[add]])
        expect_error(part, -32600, "Invalid Request", None)
    with report.check("json-rpc/batch-of-one", 15):
        expect_equal(ask(client, [add]), [result(3)], "the answer")
    with report.check("json-rpc/batch-of-notifications-is-not-answered", 15):
        client.send(json.dumps([without(add, "id"), without(request("foobar"), "id")]))
        expect_equal(ask(client, {**add, "id": "next"}), result(3, "next"), "the next answer")
    with report.check("json-rpc/largest-batch", 15):
        answer = ask(client, [{**add, "id": id} for id in range(100)])
        expect_equal(answer, [result(3, id) for id in range(100)], "the answers")
    with report.check("json-rpc/batch-that-is-too-large", 15):
        expect_error(ask(client, [add] * 101), -32600, "Invalid Request", None)


def subscriptions(report, server, ada):
    def notification(value, by):
        return {"jsonrpc": "2.0", "method": "published", "params": {"topic": "news", "value": value, "by": by}}

    with report.check("json-rpc/subscribers-are-notified", 20):
        with connect(server, "bob") as bob:
            expect_equal(ask(ada, request("subscribe", topic="news")), result(True), "the answer")
            expect_equal(ask(bob, request("publish", "news", {"rain": True})), result(True), "the answer")
            expect_equal(json.loads(ada.recv(timeout=10)), notification({"rain": True}, "bob"), "the notification")
            expect_equal(ask(bob, request("whoami")), result("bob"), "Bob, who has not subscribed")
            # The answer and the notification come in either order.
            ada.send(json.dumps(request("publish", "news", 1)))
            received = [json.loads(ada.recv(timeout=10)) for _ in range(2)]
            expect(notification(1, "ada") in received and result(True) in received, f"received {received}")
            expect_equal(ask(ada, request("unsubscribe", "news")), result(True), "the answer")
            expect_equal(ask(bob, request("publish", "news", 2)), result(True), "the answer")
            expect_equal(ask(ada, request("whoami")), result("ada"), "Ada, who has not subscribed any more")
    with report.check("json-rpc/binary-messages-are-refused", 20):
        with connect(server) as client:
            client.send(b'{"jsonrpc": "2.0", "method": "whoami", "id": 1}')
            try:
                client.recv(timeout=10)
                raise AssertionError("it is answered")
            except websockets.exceptions.ConnectionClosed as closed:
                expect_equal(closed.rcvd.code, 1003, "the close code")


def main(binary):
    exit_on_sigterm()
    report = Report()
    with tempfile.NamedTemporaryFile("w") as file:
        file.writelines(f"{name} {token}\n" for name, token in USERS.items())
        file.flush()
        arguments = ["--tokens", file.name, "--check-time", str(int(CHECK_TIME * 1000)), "--checkers", str(CHECKERS)]
        with checked_server(report, "json-rpc", binary, *arguments) as server:
            tokens(report, server)
            client = None
            with report.check("json-rpc/connects", 15):
                client = connect(server)
            if client is not None:
                calls(report, client)
                batches(report, client)
                subscriptions(report, server, client)
    report.exit()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
