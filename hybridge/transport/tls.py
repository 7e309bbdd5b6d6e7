"""TLS on our own sockets: contexts, handshakes, resumed sessions, and a TLS byte stream."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from hybridge.protocol.errors import InvalidSetting, Unreachable
from hybridge.transport.loop_stream import open_loop_stream
from hybridge.transport.loop_tls import LoopTlsStream
from hybridge.transport.read_room import MAX_READ_BYTES
from hybridge.transport.readiness import has_readiness, wait_readable, wait_writable
from hybridge.transport.socket_stream import SocketStream
from hybridge.transport.sockets import show_address
from hybridge.transport.tcp import dial_socket
from hybridge.transport.trust import CIPHERS, client_context
from hybridge.transport.untrusted import untrusted

Connect = Callable[[], Awaitable[socket.socket]]
"""Opens a connected, non-blocking socket."""

SLICE_BYTES = 16_384
"""Most bytes of one TLS write: one record, so that little is copied when the peer is slow."""

NEARLY_FULL_BYTES = SLICE_BYTES - 16
"""A record of this size is not the end of a burst: a relayed frame lacks the mask key's bytes."""

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

    async def dial(
        self, host: str, port: int, *, connect: Connect | None = None
    ) -> TlsStream | LoopTlsStream:
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

    async def _dial(self, host: str, port: int, connect: Connect) -> TlsStream | LoopTlsStream:
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
) -> TlsStream | LoopTlsStream:
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
    if not has_readiness(asyncio.get_running_loop()):
        stream = LoopTlsStream(
            await open_loop_stream(sock),
            context,
            server_hostname=server_hostname,
            is_server=is_server,
            session=session,
        )
        await stream.shake_hands()
        return stream
    try:
        tls = context.wrap_socket(
            sock,
            server_side=is_server,
            server_hostname=server_hostname,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
            session=session,
        )
    except BaseException:
        sock.close()
        raise
    try:
        await shake_hands(tls)
        return TlsStream(tls)
    except BaseException:
        tls.close()
        raise


async def shake_hands(tls: ssl.SSLSocket) -> None:
    """Do the TLS handshake on a non-blocking socket. A deadline is the caller's.

    Raises:
        OSError: The handshake failed (`ssl.SSLError` is one), or the peer has gone.
    """
    fd = tls.fileno()
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await wait_readable(fd)
        except ssl.SSLWantWriteError:
            await wait_writable(fd)
        else:
            return


class TlsStream(SocketStream):
    """A TLS connection whose handshake is done. Half-close is the business of what runs inside."""

    _sock: ssl.SSLSocket

    # A record that is not full was the last of a burst, mostly: asking again would fail, and that
    # costs an exception. Never with room for less than a record: what does not fit is decrypted,
    # and waits where no selector can see it.
    _full_read = NEARLY_FULL_BYTES
    _last_start = MAX_READ_BYTES - SLICE_BYTES

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self._tls_failed = False

    @property
    def tls(self) -> ssl.SSLSocket:
        """What knows session and certificate."""
        return self._sock

    @property
    def tls_version(self) -> str | None:
        """``TLSv1.2`` or ``TLSv1.3``; None once it is closed."""
        return self._sock.version()

    def _read(self, target: memoryview) -> int:
        try:
            # One call gives one record at most.
            return self._sock.read(SLICE_BYTES, target)  # type: ignore[return-value] # an int
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except ssl.SSLError:
            self._tls_failed = True
            raise
        except ValueError as error:  # the SSL object is gone
            raise ConnectionAbortedError("the connection is closed") from error

    def _pending(self) -> int:
        return self._sock.pending()

    def _push(self, view: memoryview | bytes) -> int:
        # One record a call. A record that did not fit is offered again exactly as it was: whoever
        # holds the rest keeps its beginning and its end, so the same slice comes out of it.
        sock = self._sock
        size = len(view)
        sent = 0
        try:
            if size > SLICE_BYTES:
                view = memoryview(view)
                while size - sent > SLICE_BYTES:
                    sock.send(view[sent : sent + SLICE_BYTES])
                    sent += SLICE_BYTES
                view = view[sent:]
            sock.send(view)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return sent
        except OSError as error:
            self._tls_failed = True
            self._write_failed(error)
        return size

    async def _say_goodbye(self, stall_seconds: float) -> None:
        # Without its close_notify the end would look broken to a peer that has all that was sent.
        while self._is_open and not self._close_notify_sent():
            self._await_room()
            if not await self._emptied(stall_seconds):
                self.abort()
        self._eof_wanted = True
        if not self._is_open:
            return
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
        except OSError:
            self._tls_failed = True

    def _close_notify_sent(self) -> bool:
        """Offer the peer our close_notify; False where the socket has no room for it yet."""
        if self._tls_failed or self._write_error is not None:
            return True
        try:
            self._sock.unwrap()
        except ssl.SSLWantWriteError:
            return False
        except ssl.SSLWantReadError:
            pass  # It is sent; the peer's own is not waited for.
        except (OSError, ValueError):
            self._tls_failed = True
        return True
