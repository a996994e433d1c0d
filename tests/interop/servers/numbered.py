"""The messages of `/duplex`, which have a number and different contents."""

HEAD = 10
STEPS = 997
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _noise(size):
    """The high bytes of a xorshift generator."""
    state, result = 2463534242, bytearray(size)
    for index in range(size):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        result[index] = state >> 24
    return bytes(result)


class Numbered:
    """Makes and checks messages of one size."""

    def __init__(self, size):
        self.size = size
        self.binary = _noise(size - HEAD + STEPS)
        self.text = bytes(ALPHABET[byte & 63] for byte in self.binary).decode()

    def message(self, sender, number):
        start = number % STEPS
        head, end = f"{sender}{number:09}", start + self.size - HEAD
        if number % 2:
            return head.encode() + self.binary[start:end]
        return head + self.text[start:end]


class SequenceCheck:
    """Checks that messages are received in order, complete and once."""

    def __init__(self, numbered, sender):
        self.numbered = numbered
        self.sender = sender
        self.count = 0
        self.wrong = None

    def check(self, message):
        wanted = self.numbered.message(self.sender, self.count)
        if self.wrong is None and (type(message) is not type(wanted) or message != wanted):
            self.wrong = f"message {self.count} is {type(message).__name__} of {len(message)}: {message[:HEAD]!r}"
        self.count += 1
