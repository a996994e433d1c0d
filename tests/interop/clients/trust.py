"""Whom the clients trust with wss:// URLs."""

import ssl

_context = None


def trust(ca):
    """Has the clients trust the issuers in a file in PEM, and nobody else."""
    global _context
    _context = ssl.create_default_context(cafile=ca)
    _context.set_alpn_protocols(["http/1.1"])


def context(url, newest=ssl.TLSVersion.TLSv1_3):
    """The context for a URL with wss, None for one with ws. `newest` holds for all contexts that were returned."""
    if not url.startswith("wss:"):
        return None
    if _context is None:
        raise ValueError(f"{url} needs --ca FILE")
    _context.maximum_version = newest
    return _context
