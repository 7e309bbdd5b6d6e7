"""TLS records that no library sends: a peer that makes its own, once hands are shaken."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ssl
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from hybridge.transport.tls import open_tls, server_context
from hybridge.transport.tls_stream import TlsStream
from tests.support.agent_ends import sockets_pair
from tests.support.relay import certificate
from tests.support.tcp_ends import Ear

NAME = "ns1.servicebus.windows.net"

HANDSHAKE, DATA = 22, 23
"""What is in a record."""

KEY_UPDATE = b"\x18\x00\x00\x01\x01"
"""A message of TLS 1.3 that asks the other side for new keys as well."""


class RecordMaker:
    """Makes the records of one side of TLS 1.3 with AES-256-GCM, whose keys the context logged.

    Args:
        log: `ssl.SSLContext.keylog_filename` of that side.
        label: ``CLIENT_TRAFFIC_SECRET_0`` or the server's.
    """

    def __init__(self, log: Path, label: str = "CLIENT_TRAFFIC_SECRET_0") -> None:
        lines = [line.split() for line in log.read_text().splitlines()]
        self._secret = next(bytes.fromhex(line[2]) for line in lines if line[0] == label)
        self._count = 0

    def record(self, kind: int, payload: bytes) -> bytes:
        """Give one record."""
        nonce = int.from_bytes(self._expand("iv", 12)) ^ self._count
        self._count += 1
        head = b"\x17\x03\x03" + (len(payload) + 17).to_bytes(2)
        key = AESGCM(self._expand("key", 32))
        return head + key.encrypt(nonce.to_bytes(12), payload + bytes([kind]), head)

    def update(self) -> None:
        """Use new keys from now on, as after a `KEY_UPDATE`."""
        self._secret = self._expand("traffic upd", 48)
        self._count = 0

    def _expand(self, label: str, size: int) -> bytes:
        name = b"tls13 " + label.encode()
        info = size.to_bytes(2) + bytes([len(name)]) + name + b"\x00"
        return HKDFExpand(SHA384(), size, info).derive(self._secret)


class OldRecordMaker:
    """The same for the client's side of TLS 1.2, with what both sides said in the open."""

    def __init__(self, log: Path, client_random: bytes, server_random: bytes) -> None:
        lines = [line.split() for line in log.read_text().splitlines()]
        secret = next(
            bytes.fromhex(line[2])
            for line in lines
            if line[0] == "CLIENT_RANDOM" and bytes.fromhex(line[1]) == client_random
        )
        block = _expand_old(secret, b"key expansion" + server_random + client_random, 40)
        self._key, self._salt = AESGCM(block[:16]), block[32:36]
        self._count = 1  # After Finished.

    def record(self, kind: int, payload: bytes) -> bytes:
        """Give one record."""
        number = self._count.to_bytes(8)
        self._count += 1
        kind_and_version = bytes([kind]) + b"\x03\x03"
        sealed = self._key.encrypt(
            self._salt + number, payload, number + kind_and_version + len(payload).to_bytes(2)
        )
        return kind_and_version + (8 + len(sealed)).to_bytes(2) + number + sealed


def _expand_old(secret: bytes, seed: bytes, size: int) -> bytes:
    def mac(data: bytes) -> bytes:
        return hmac.digest(secret, data, sha256)

    found, link = b"", seed
    while len(found) < size:
        link = mac(link)
        found += mac(link + seed)
    return found[:size]


class RawClient:
    """A TLS client in memory over a bare socket, whose peer is a stream of ours.

    Args:
        log: Where its keys are written.
        version: The only one that it speaks.
        prepare: What else its context needs.
    """

    def __init__(
        self,
        log: Path,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        *,
        prepare: Callable[[ssl.SSLContext], None] | None = None,
    ) -> None:
        self.log = log
        context = ssl.create_default_context(cafile=str(certificate()[2]))
        context.keylog_filename = str(log)
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("ECDHE+AES128+AESGCM")
        if prepare is not None:
            prepare(context)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=NAME)
        self.sock, self._far = sockets_pair()
        self.said = b""
        """What it said in its handshake."""
        self.heard = b""
        """What it heard in its handshake."""

    async def join(self) -> TlsStream:
        """Shake hands; give the stream at the other end."""
        cert, key, _ = certificate()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(
                open_tls(self._far, server_context(cert, key), is_server=True)
            )
            while not self._has_shaken():
                await self._say()
                self.heard += await self._hear()
            await self._say()
        return serving.result()

    def _has_shaken(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    async def _say(self) -> None:
        records = self._outgoing.read()
        self.said += records
        await asyncio.get_running_loop().sock_sendall(self.sock, records)

    async def _hear(self) -> bytes:
        records = await asyncio.get_running_loop().sock_recv(self.sock, 262_144)
        if not records:
            raise ConnectionResetError("the end of TCP, and none of TLS")
        self._incoming.write(records)
        return records

    def records_of(self, data: bytes, *, ends: bool = False) -> bytes:
        """Give the records that carry bytes, and perhaps a close_notify behind them."""
        if data:
            self._tls.write(data)
        if ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
        return self._outgoing.read()

    async def read(self, count: int) -> bytes:
        """Wait for so many bytes of the stream, or for its orderly end."""
        found = b""
        while len(found) < count:
            try:
                data = self._tls.read(65_536)
            except ssl.SSLWantReadError:
                await self._hear()
                continue
            if not data:
                break
            found += data
        return found

    def record_maker(self) -> RecordMaker:
        """Give who makes further records in its place, for TLS 1.3."""
        return RecordMaker(self.log)

    def old_record_maker(self) -> OldRecordMaker:
        """Give who makes further records in its place, for TLS 1.2."""
        return OldRecordMaker(self.log, self.said[11:43], self.heard[11:43])


async def meet(folder: Path) -> tuple[RawClient, TlsStream, Ear]:
    """A client whose records the test makes itself, and the stream that serves it, heard."""
    client = RawClient(folder / "keys")
    stream = await client.join()
    ear = Ear(stream)
    stream.attach(ear)
    return client, stream, ear
