"""The payloads and close codes that the checks send."""

# The sizes around each change of the form of the payload length (RFC 6455 5.2), and large ones.
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 16 << 20]

# The codes that may stand in a close frame (RFC 6455 7.4.1 and the IANA registry).
CLOSE_CODES = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 4999]

_PATTERN = "aé€😀"  # one, two, three and four bytes in UTF-8


def text(size):
    """A text whose UTF-8 is exactly `size` bytes, with characters of every length."""
    whole = size // len(_PATTERN.encode())
    result = _PATTERN * whole + "é" * (size % len(_PATTERN.encode()) // 2)
    return result + "z" * (size - len(result.encode()))


def binary(size):
    """`size` bytes in which a part that is shifted, swapped or repeated is noticed."""
    block = b"".join(n.to_bytes(3, "big") for n in range(min(size // 3 + 1, 30_011)))
    return (block * (size // len(block) + 1))[:size]
