"""What must survive a restart of the relay: generated keys, in the state directory.

The CA and the server certificate stand beside them: see `hybridge.transport.development_ca`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from hybridge.protocol.errors import InvalidSetting
from hybridge.protocol.secret import Secret
from hybridge.transport.private_files import (
    UnusableFile,
    locked,
    make_private_directory,
    read_private,
    write_atomically,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEY_BYTES = 32
"""Random bytes of a generated key; its text is their base64, 44 characters."""

_FORMAT = 1
_NEXT_STEP = "restore it from a backup; or delete it: new keys are made, and with them new \
connection strings"


def default_state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_STATE_HOME/hybridge``, or ``~/.local/state/hybridge``.

    Raises:
        InvalidSetting: There is no home directory either.
    """
    base = environment.get("XDG_STATE_HOME", "")
    if base.startswith("/"):  # The standard says to ignore a relative one.
        return Path(base) / "hybridge"
    try:
        return Path.home() / ".local" / "state" / "hybridge"
    except RuntimeError:
        raise InvalidSetting(
            "--state-dir", "there is no home directory to keep state in", hint="give --state-dir"
        ) from None


class RuleKeys(NamedTuple):
    """The two keys of a rule."""

    primary: Secret
    secondary: Secret


@dataclass(frozen=True, slots=True)
class RuleName:
    """Says which rule a key belongs to. Names compare case-insensitively."""

    namespace: str
    hybrid_connection: str | None
    rule: str

    def folded(self) -> RuleName:
        path = None if self.hybrid_connection is None else self.hybrid_connection.lower()
        return RuleName(self.namespace.lower(), path, self.rule.lower())


class KeyFile:
    """Keys that nobody wrote down: made when first asked for, the same ever after.

    Keys of rules that are gone stay, so that a rule that comes back has its old keys.
    """

    def __init__(self, path: Path, keys: dict[RuleName, RuleKeys]) -> None:
        self._path = path
        self._keys = keys
        self._is_changed = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, state_dir: Path) -> Iterator[Self]:
        """Read the keys of a state directory; until it is closed no other process changes them.

        New keys are lost unless `save` is called.

        Raises:
            UnusableFile: The directory or the file cannot be used: corrupt, readable by others, a
                symbolic link.
        """
        make_private_directory(state_dir)
        with locked(state_dir):
            path = state_dir / "keys.json"
            data = read_private(path)
            yield cls(path, {} if data is None else _parse(path, data))

    def keys_of(self, name: RuleName) -> RuleKeys:
        """Give the keys of a rule; made now if there are none."""
        name = name.folded()
        if name not in self._keys:
            self._keys[name] = RuleKeys(_new_key(), _new_key())
            self._is_changed = True
        return self._keys[name]

    def save(self) -> None:
        """Write new keys, if there are any.

        Raises:
            UnusableFile: The file cannot be written.
        """
        if not self._is_changed:
            return
        write_atomically(self._path, _serialize(self._keys))
        self._is_changed = False


def _new_key() -> Secret:
    return Secret(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())


def _serialize(keys: Mapping[RuleName, RuleKeys]) -> bytes:
    rows = [
        {
            "namespace": name.namespace,
            "hybrid_connection": name.hybrid_connection,
            "rule": name.rule,
            "primary_key": both.primary.reveal(),
            "secondary_key": both.secondary.reveal(),
        }
        for name, both in keys.items()
    ]
    return json.dumps({"format": _FORMAT, "keys": rows}, indent=1).encode() + b"\n"


def _parse(path: Path, data: bytes) -> dict[RuleName, RuleKeys]:
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT:
            raise UnusableFile(
                path, "was written by another version", hint="use the version that wrote it"
            )
        return dict(_parse_row(row) for row in document["keys"])
    except (ValueError, KeyError, TypeError, RecursionError):
        # Not the parser's words: they may show a key.
        raise UnusableFile(path, "is corrupt", hint=_NEXT_STEP) from None


def _parse_row(row: Mapping[str, object]) -> tuple[RuleName, RuleKeys]:
    def text(field: str) -> str:
        value = row[field]
        if not isinstance(value, str) or not value:
            raise ValueError(field)
        return value

    path = None if row["hybrid_connection"] is None else text("hybrid_connection")
    name = RuleName(text("namespace"), path, text("rule"))
    return name.folded(), RuleKeys(Secret(text("primary_key")), Secret(text("secondary_key")))
