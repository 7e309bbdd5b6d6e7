"""What the relay gives to others: its CA, and a connection string for each rule.

Nothing else of the state directory leaves it. Connection strings are readable only by the user that
the relay runs as (0600): agents and clients on the same machine or in the same containers run as
that user, or get a copy from an administrator.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridge.protocol import connection_string
from hybridge.protocol.connection_string import ConnectionString
from hybridge.transport.private_files import (
    PRIVATE_FILE,
    PUBLIC_FILE,
    UnusableFile,
    write_atomically,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from relay.namespace import AuthorizationRule, Namespace

SUFFIX = ".connection-string"

MAX_PART_CHARS = 60
"""Longest part of a file name; of a longer one the rest is replaced by a digest."""

_UNSAFE = re.compile(r"[^0-9A-Za-z_-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleString:
    """The connection string of one rule."""

    namespace: str

    hybrid_connection: str | None
    """None: the rule is the namespace's, and its string names no hybrid connection."""

    rule: AuthorizationRule

    connection_string: ConnectionString

    def serialize(self) -> str:
        """The text, with the key in it."""
        return connection_string.serialize(self.connection_string)

    @property
    def file_name(self) -> str:
        """``<namespace>.<hybrid connection or "namespace">.<rule>.connection-string``.

        Different rules have different names: dots and slashes inside a name, and a hybrid
        connection called ``namespace``, are percent-encoded.
        """
        if self.hybrid_connection is None:
            middle = "namespace"
        elif self.hybrid_connection.lower() == "namespace":
            middle = f"%{ord(self.hybrid_connection[0]):02X}{self.hybrid_connection[1:]}"
        else:
            middle = _part(self.hybrid_connection)
        return f"{_part(self.namespace)}.{middle}.{_part(self.rule.name)}{SUFFIX}"


def _part(name: str) -> str:
    text = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", name)
    if len(text) <= MAX_PART_CHARS:
        return text
    digest = hashlib.sha256(name.lower().encode()).hexdigest()[:16]
    return f"{text[:MAX_PART_CHARS]}~{digest}"


def rule_strings(namespaces: Iterable[Namespace], port: int) -> Iterator[RuleString]:
    """Give the connection string of every rule, with its primary key.

    Args:
        namespaces: Each is reached by the first of its hosts.
        port: The port that clients dial; 443 is left out of the text.
    """
    for namespace in namespaces:
        for rule in namespace.rules.values():
            yield _rule_string(namespace, None, rule, port)
        for hybrid_connection in namespace.hybrid_connections.values():
            for rule in hybrid_connection.rules.values():
                yield _rule_string(namespace, hybrid_connection.name, rule, port)


def _rule_string(
    namespace: Namespace, path: str | None, rule: AuthorizationRule, port: int
) -> RuleString:
    return RuleString(
        namespace=namespace.name,
        hybrid_connection=path,
        rule=rule,
        connection_string=ConnectionString(
            host=namespace.hosts[0],
            port=port,
            path=path,
            key_name=rule.name,
            key=rule.primary_key,
        ),
    )


def write(directory: Path, *, ca_pem: str, strings: Iterable[RuleString]) -> None:
    """Write ``ca.pem`` and one file per connection string, each as a whole.

    Strings of the same namespaces that are not among these are removed: their rules are gone.

    Args:
        directory: Made where it is missing.
        ca_pem: What clients must trust; readable by everybody.
        strings: All of the relay's.

    Raises:
        UnusableFile: The directory cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableFile(
            directory,
            f"the directory cannot be made: {error.strerror}",
            hint="choose a directory that this user can write with --share-dir",
        ) from error
    write_atomically(directory / "ca.pem", ca_pem.encode(), mode=PUBLIC_FILE)
    written: set[str] = set()
    namespaces: set[str] = set()
    for each in strings:
        text = each.serialize() + "\n"
        write_atomically(directory / each.file_name, text.encode(), mode=PRIVATE_FILE)
        written.add(each.file_name)
        namespaces.add(_part(each.namespace))
    for path in directory.glob(f"*{SUFFIX}"):
        if path.name.partition(".")[0] in namespaces and path.name not in written:
            path.unlink(missing_ok=True)
