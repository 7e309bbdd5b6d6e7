"""What ``hcm add`` stored: one file, written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hcm_agent.key_storage import Keys
from hcm_agent.settings import Destination, Key, check_has_key, given_destination
from hybridge.program.connection_strings import parse_for_one
from hybridge.program.documents import validated
from hybridge.program.timing_settings import Document
from hybridge.protocol.connection_string import ConnectionString, serialize
from hybridge.protocol.errors import InvalidSetting
from hybridge.transport.private_files import UnusableFile, read_private, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hcm_agent.key_storage import KeyStorage

_HINT = "mend it, or move it away and add again what it held; it is left as it is"
_EXPOSED = "if somebody may have read it, renew the keys that it holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedConnection:
    """One hybrid connection that somebody added while the service ran."""

    connection_string: ConnectionString

    targets: tuple[str, ...] = ()
    """As for ``hcm run --target``; none: as the relay says."""

    azbridge: bool = False
    keys: Keys = Keys.FILE
    """Where its connection string is."""

    @property
    def key(self) -> Key:
        """What tells it from the others."""
        return self.connection_string.host.lower(), (self.connection_string.path or "").lower()

    @property
    def account(self) -> str:
        """Its name in a keyring."""
        return f"{self.connection_string.host}/{self.connection_string.path}"

    def destination(self, *, setting: str) -> Destination:
        """Where its connections go.

        Raises:
            InvalidSetting: A target cannot be used; ``setting`` is named.
        """
        return given_destination(self.targets, azbridge=self.azbridge, setting=setting)


class _Entry(Document):
    connection_string: str | None = Field(default=None, repr=False)
    keyring: str | None = None
    targets: list[str] = Field(default_factory=list)
    az_bridge: bool = False


class _StoreDocument(Document):
    version: Literal[1]
    hybrid_connections: list[_Entry]


class Store:
    """Reads and writes what was added.

    Args:
        path: The file. Only its owner may read it.
        keyring: Holds the connection strings that are not in the file.
    """

    def __init__(self, path: Path, keyring: KeyStorage) -> None:
        self.path = path
        self._keyring = keyring

    def read(self) -> list[AddedConnection]:
        """Give what was added, in that order.

        Raises:
            InvalidSetting: The file is not as we write it; what is wrong is named.
            KeyringUnusable: A connection string cannot be had from the keyring.
            UnusableFile: It cannot be read, or others can read it.
        """
        data = read_private(self.path, if_exposed=_EXPOSED)
        if data is None:
            return []
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            raise UnusableFile(
                self.path, f"is not what 'hcm add' wrote: no JSON{where}", hint=_HINT
            ) from None
        try:
            found = validated(_StoreDocument, document, str(self.path))
        except InvalidSetting as error:
            raise InvalidSetting(
                str(self.path), str(error).removeprefix(f"{self.path}: "), hint=_HINT
            ) from None
        return [self._parse(entry, n) for n, entry in enumerate(found.hybrid_connections)]

    def _parse(self, entry: _Entry, index: int) -> AddedConnection:
        source = f"{self.path}: HybridConnections[{index}]"
        keys = Keys.FILE if entry.keyring is None else Keys.KEYRING
        text = (
            entry.connection_string if entry.keyring is None else self._keyring.get(entry.keyring)
        )
        if text is None:
            raise InvalidSetting(source, "has no ConnectionString", hint=_HINT)
        added = AddedConnection(
            connection_string=parse_for_one(text, source=f"{source}.ConnectionString"),
            targets=tuple(entry.targets),
            azbridge=entry.az_bridge,
            keys=keys,
        )
        check_has_key(added.connection_string)
        added.destination(setting=f"{source}.Targets")
        return added

    def write(self, entries: Sequence[AddedConnection]) -> None:
        """Replace what is stored.

        Raises:
            KeyringUnusable: The keyring does not take a connection string; nothing has changed.
            UnusableFile: The file cannot be written; the old one is unharmed.
        """
        fields = [self._to_fields(each) for each in entries]
        document = {"Version": 1, "HybridConnections": fields}
        write_atomically(self.path, (json.dumps(document, indent=2) + "\n").encode())

    def forget(self, entry: AddedConnection) -> None:
        """Delete the connection string of one that is stored no more from the keyring.

        Raises:
            KeyringUnusable: It is locked.
        """
        if entry.keys is Keys.KEYRING:
            self._keyring.forget(entry.account)

    def _to_fields(self, entry: AddedConnection) -> dict[str, object]:
        text = serialize(entry.connection_string)
        fields: dict[str, object] = {}
        if entry.keys is Keys.KEYRING:
            self._keyring.put(entry.account, text)
            fields["Keyring"] = entry.account
        else:
            fields["ConnectionString"] = text
        if entry.targets:
            fields["Targets"] = list(entry.targets)
        if entry.azbridge:
            fields["AzBridge"] = True
        return fields
