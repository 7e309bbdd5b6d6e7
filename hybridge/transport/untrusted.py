"""What to say of a certificate that is not trusted: who signed it, too."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable

from hybridge.protocol.errors import RelayError, UntrustedCertificate
from hybridge.protocol.redaction import one_line

LOOK_SECONDS = 5.0
"""How long it may take to learn who signed a certificate."""

READ_BYTES = 65_536
"""Most bytes of a handshake that are read at once."""

_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
"""OpenSSL's codes of verification that say: nobody we trust has signed it."""

_HINT = "give the relay's ca.pem with --ca; an inspecting proxy has an authority of its own"
_OWN_AUTHORITY = "Hybridge "
"""How the relay's own authorities are called."""


async def untrusted(
    error: ssl.SSLCertVerificationError, host: str, connect: Callable[[], Awaitable[socket.socket]]
) -> UntrustedCertificate:
    """Make the error for a certificate that is not trusted.

    Where nobody we trust has signed it, the certificate is looked at once more, on a connection of
    its own on which nothing is said: OpenSSL does not show what it has refused.

    Args:
        error: What the handshake ended with.
        host: The name that was meant.
        connect: Gives another connection there.
    """
    issuer = None
    if error.verify_code in _UNKNOWN_AUTHORITY:
        with contextlib.suppress(OSError, RelayError, TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                issuer = await _issuer(host, await connect())
    message = f"the certificate of {host} is not trusted: {error.verify_message}"
    if issuer is None:
        return UntrustedCertificate(message, hint=_HINT)
    found = UntrustedCertificate(
        f"{message}; it is issued by {issuer!r}",
        hint=_HINT
        if issuer.startswith(_OWN_AUTHORITY)
        else f"does a proxy inspect TLS? give the certificate of {issuer!r} with --ca",
    )
    found.issuer = issuer
    return found


async def _issuer(host: str, sock: socket.socket) -> str | None:
    """Say who signed the certificate that is shown on a new connection; closes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # To look only: nothing is sent, and all is thrown away.
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    loop = asyncio.get_running_loop()
    with sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, outgoing.read())
                data = await loop.sock_recv(sock, READ_BYTES)
                if not data:
                    return None
                incoming.write(data)
    certificate = tls.getpeercert(binary_form=True)
    return None if certificate is None else _name_of_issuer(certificate)


def _name_of_issuer(certificate: bytes) -> str | None:
    # Takes its time to import, and is needed only where something is wrong.
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        issuer = x509.load_der_x509_certificate(certificate).issuer
    except ValueError:
        return None
    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        for each in issuer.get_attributes_for_oid(oid):
            return one_line(str(each.value))
    return one_line(issuer.rfc4514_string()) or None
