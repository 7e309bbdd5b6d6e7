"""TLS on our own sockets: contexts, handshakes, resumed sessions."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from hybridge.protocol.errors import InvalidSetting, Unreachable
from hybridge.transport.loop_stream import LoopStream, open_loop_stream
from hybridge.transport.readiness import has_readiness
from hybridge.transport.socket_stream import SocketStream
from hybridge.transport.sockets import show_address
from hybridge.transport.tcp import dial_socket
from hybridge.transport.tls_stream import TlsStream, open_tls_stream
from hybridge.transport.trust import CIPHERS, client_context
from hybridge.transport.untrusted import untrusted

Connect = Callable[[], Awaitable[socket.socket]]
"""Opens a connected, non-blocking socket."""

MAX_HANDSHAKES = 32
"""Most connections that one end opens at a time; more wait. A burst of them all at once would leave
memory in pieces: 1,000 opened together took 142 KiB each instead of 86."""

MAX_SESSIONS = 64
"""Most TLS sessions kept for resumption."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Make the relay's context: TLS 1.2 and 1.3, forward secrecy, HTTP/1.1 only (section 1.5).

    Raises:
        InvalidSetting: The files cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # One ticket is enough: each costs a signature's worth of time on every TLS 1.3 handshake.
    context.num_tickets = 1
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSetting(
            str(certificate),
            f"the certificate or its key cannot be used: {error}",
            hint="remove both files, and they are made anew at the next start",
        ) from error
    return context


class ClientTls:
    """What a listener or sender trusts, and the sessions it may resume.

    Args:
        ca: A PEM file of further trusted authorities, beside the system's own.

    Raises:
        InvalidSetting: The file cannot be read, or holds no certificate.
    """

    def __init__(self, ca: Path | None = None) -> None:
        self.context = client_context(ca)
        # Kept per verified name: a resumed session skips the check of the host name.
        self._sessions: dict[tuple[str, int], ssl.SSLSession] = {}
        self._room = asyncio.Semaphore(MAX_HANDSHAKES)

    async def dial(self, host: str, port: int, *, connect: Connect | None = None) -> TlsStream:
        """Open TLS to ``host:port``.

        Args:
            host: Name for SNI and for the check of the certificate.
            port: Port to dial.
            connect: Gives the connection to do it on, if it is not one to ``host:port``; asked once
                more where nobody we trust has signed the certificate, to learn who has.

        Raises:
            UntrustedCertificate: The certificate is not for this name, or from nobody we trust.
            Unreachable: Name, route, port or TLS. A deadline is the caller's.
        """
        async with self._room:
            return await self._dial(host, port, connect or (lambda: dial_socket(host, port)))

    async def _dial(self, host: str, port: int, connect: Connect) -> TlsStream:
        sock = await connect()
        offered = self._sessions.get((host, port))
        try:
            stream = await open_tls(sock, self.context, server_hostname=host, session=offered)
        except ssl.SSLCertVerificationError as error:
            raise await untrusted(error, host, connect) from error
        except OSError as error:
            self._sessions.pop((host, port), None)
            raise Unreachable(
                f"TLS with {show_address(host, port)} failed: {_describe_tls(error)}",
                hint="check that this port speaks TLS 1.2, and that no proxy is in the way",
            ) from error
        # Asking for the session copies it, and the copy costs memory for as long as the connection
        # lives (4 KiB, measured): so only where none is kept, or what was kept is good no more.
        if self._sessions.get((host, port)) is offered and not stream.tls.session_reused:
            self._keep_session(host, port, stream.tls)
        return stream

    def _keep_session(self, host: str, port: int, tls: ssl.SSLSocket | ssl.SSLObject) -> None:
        session = tls.session
        if session is not None and session.has_ticket:
            if len(self._sessions) >= MAX_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            self._sessions[host, port] = session


def _describe_tls(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error) or "the peer closed the connection"


async def open_tls(
    sock: socket.socket,
    context: ssl.SSLContext,
    *,
    server_hostname: str | None = None,
    is_server: bool = False,
    session: ssl.SSLSession | None = None,
) -> TlsStream:
    """Do the TLS handshake on a connected socket. A deadline is the caller's.

    Args:
        sock: Non-blocking; the stream owns it, and an error closes it.
        context: Trust, or certificate.
        server_hostname: Name for SNI and for the check of the certificate, where we dial.
        is_server: Whether the peer dialled.
        session: A session to resume.

    Raises:
        OSError: The handshake failed (`ssl.SSLError` is one), or the peer has gone.
    """
    wire: SocketStream | LoopStream
    if has_readiness(asyncio.get_running_loop()):
        wire = SocketStream(sock)
    else:
        wire = await open_loop_stream(sock)
    return await open_tls_stream(
        wire, context, server_hostname=server_hostname, is_server=is_server, session=session
    )
