"""What our own ends trust: the system's authorities, and those of one more file.

To read the system's some 140 takes 20 ms and 1 MiB, so all ends of a process that trust the same
share one context, until one of the files changes.
"""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

from hybridge.protocol.errors import InvalidSetting

MAX_CONTEXTS = 16
"""Most contexts that are kept."""

# Our own ends and the relay agree on the first; the others serve everybody else, and real Azure.
CIPHERS = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE+AESGCM:ECDHE+CHACHA20"

_State = tuple[object, ...]


def client_context(ca: Path | None) -> ssl.SSLContext:
    """Give the context for dialling: TLS 1.2, and who may have signed the peer's certificate.

    It is shared: change nothing of it.

    Args:
        ca: A PEM file of further trusted authorities, beside the system's own.

    Raises:
        InvalidSetting: The file cannot be read, or holds no certificate.
    """
    # The variables SSL_CERT_FILE and SSL_CERT_DIR are in the paths already.
    system = ssl.get_default_verify_paths()
    return _context(
        ca,
        _state_of(None if ca is None else str(ca)),
        (_state_of(system.cafile), _state_of(system.capath)),
    )


def _state_of(path: str | None) -> _State:
    """Give what differs once a file has changed, or another stands in its place."""
    if path is None:
        return ()
    try:
        found = Path(path).stat()
    except OSError:
        return (path,)
    return path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=MAX_CONTEXTS)
def _context(ca: Path | None, _ca_state: _State, _system_state: _State) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A resumed TLS 1.2 session costs a third of a handshake, and is known when it is over.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # Python 3.13 asks for extensions that many companies' authorities do not have. Chain, name and
    # time are checked all the same, and the same with every Python.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise InvalidSetting(
                f"CA file {ca}",
                "cannot be read" if isinstance(error, OSError) and error.errno else str(error),
                hint="give the relay's ca.pem; `hybridge-relay ca` prints it",
            ) from error
    return context
