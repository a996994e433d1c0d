"""Options of the two servers with the `websockets` package."""

from urllib.parse import urlsplit

from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

PONG_TIMEOUT = 60  # seconds; much may be queued before a pong


def subprotocol(_connection, offered):
    return "numbers.v2" if "numbers.v2" in offered else None


OPTIONS = {
    "subprotocols": ["numbers.v2"],
    "select_subprotocol": subprotocol,  # by default the package refuses clients that offer none
    "max_size": None,
    "ping_timeout": PONG_TIMEOUT,
}


def compression(deflate):
    if deflate == "off":
        return {"compression": None}
    if deflate == "takeover":
        return {}  # the package's defaults: windows of 4 KiB, and context takeover
    alone = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
    return {"compression": None, "extensions": [alone]}


def refusal(connection, request):
    if urlsplit(request.path).path == "/refuse":
        response = connection.respond(401, "no entry without a pass")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    return None


def echo_header(_connection, request, response):
    if "X-Echo" in request.headers:
        response.headers["X-Echo"] = request.headers["X-Echo"]
