"""What ``hcm add`` stored: read strictly, written whole, keys where they shall be."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.fail
import pytest
from keyring.errors import KeyringLocked, PasswordDeleteError

from hcm_agent.key_storage import KeyringUnusable, Keys, KeyStorage
from hcm_agent.store import AddedConnection, Store
from hybridge.protocol import connection_string
from hybridge.protocol.errors import InvalidSetting, RelayError
from hybridge.transport.private_files import UnusableFile
from tests.support.agent_ends import KEY
from tests.support.agent_ends import connection_string as text_for


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that is there as long as the test."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False
        self.reads = 0

    def get_password(self, service: str, username: str) -> str | None:
        self.reads += 1
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError

    def _check(self) -> None:
        if self.is_locked:
            raise KeyringLocked("the collection is locked")


@pytest.fixture
def ring() -> Iterator[MemoryKeyring]:
    before, fresh = keyring.get_keyring(), MemoryKeyring()
    keyring.set_keyring(fresh)
    yield fresh
    keyring.set_keyring(before)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return opened(tmp_path)


def opened(folder: Path) -> Store:
    return Store(folder / "connections.json", KeyStorage(folder))


def added(name: str, *, keys: Keys = Keys.FILE, target: str | None = "db:5432") -> AddedConnection:
    return AddedConnection(
        connection_string=connection_string.parse(text_for(name)),
        targets=() if target is None else (target,),
        keys=keys,
    )


def test_what_is_written_is_read_again_and_nobody_else_reads_it(store: Store) -> None:
    entries = [
        added("orders"),
        added("bills", target=None),
        AddedConnection(
            connection_string=connection_string.parse(text_for("snmp")),
            targets=("a/udp://10.0.0.5:161", "b/db:5432"),
            azbridge=True,
        ),
    ]
    assert store.read() == []

    store.write(entries)

    assert store.read() == entries
    assert store.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not what 'hcm add' wrote: no JSON"),
        ('{"Version": 1, "HybridConnections": [', "no JSON (line 1)"),
        ("[" * 100_000, "no JSON"),
        ("[]", "must be an object"),
        ('{"Version": 2, "HybridConnections": []}', "Version"),
        ('{"Version": 1, "HybridConnections": [{"Target": "db:1"}]}', "Target: unknown key"),
        ('{"Version": 1, "HybridConnections": [{}]}', "[0]: has no ConnectionString"),
        (
            '{"Version": 1, "HybridConnections": [{"ConnectionString": "Endpoint=sb://h/"}]}',
            "[0].ConnectionString: names no hybrid connection",
        ),
        (
            json.dumps(
                {
                    "Version": 1,
                    "HybridConnections": [{"ConnectionString": text_for("x"), "Targets": ["db"]}],
                }
            ),
            "[0].Targets: 'db' has no port",
        ),
    ],
)
def test_a_file_that_is_not_ours_is_an_error_that_names_it_and_stays_as_it_is(
    store: Store, text: str, problem: str
) -> None:
    store.path.touch(mode=0o600)
    store.path.write_text(text)

    with pytest.raises(RelayError) as caught:
        store.read()

    assert str(store.path) in str(caught.value)
    assert problem in str(caught.value)
    assert caught.value.hint
    assert KEY not in str(caught.value)
    assert store.path.read_text() == text


def test_a_file_that_others_can_read_is_not_used(store: Store) -> None:
    store.write([added("orders")])
    store.path.chmod(0o644)

    with pytest.raises(UnusableFile, match="others may read it") as caught:
        store.read()

    assert caught.value.hint.startswith(f"chmod 600 {store.path}")
    assert "delete" not in caught.value.hint


def test_in_a_keyring_the_file_has_the_accounts_only(tmp_path: Path, ring: MemoryKeyring) -> None:
    store = opened(tmp_path)
    entries = [added("orders", keys=Keys.KEYRING), added("stock")]

    store.write(entries)

    text = store.path.read_text()
    assert "orders" in text
    assert text.count(KEY) == 1  # That of stock, which is kept in the file.
    assert list(ring.kept.values()) == [text_for("orders")]
    assert opened(tmp_path).read() == entries


def test_the_keyring_is_asked_once_and_two_services_have_two_places(
    tmp_path: Path, ring: MemoryKeyring
) -> None:
    opened(tmp_path).write([added("orders", keys=Keys.KEYRING)])
    store = opened(tmp_path)
    store.read()
    store.read()
    assert ring.reads == 1

    (tmp_path / "other").mkdir()
    opened(tmp_path / "other").write([added("orders", keys=Keys.KEYRING)])
    assert len(ring.kept) == 2

    store.forget(added("orders", keys=Keys.KEYRING))
    store.forget(added("orders", keys=Keys.KEYRING))  # It may be gone already.
    assert len(ring.kept) == 1


def test_a_locked_or_emptied_keyring_is_an_error_and_the_file_stays(
    tmp_path: Path, ring: MemoryKeyring
) -> None:
    opened(tmp_path).write([added("orders", keys=Keys.KEYRING)])
    before = opened(tmp_path).path.read_text()

    ring.is_locked = True
    for act in (
        lambda: opened(tmp_path).read(),
        lambda: opened(tmp_path).write([added("stock", keys=Keys.KEYRING)]),
        lambda: opened(tmp_path).forget(added("orders", keys=Keys.KEYRING)),
    ):
        with pytest.raises(KeyringUnusable, match="locked") as caught:
            act()
        assert caught.value.hint
        assert KEY not in str(caught.value)

    ring.is_locked = False
    ring.kept.clear()
    with pytest.raises(KeyringUnusable, match="no connection string of 'ns1"):
        opened(tmp_path).read()
    assert opened(tmp_path).path.read_text() == before


def test_a_system_without_a_keyring_says_so(tmp_path: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    try:
        with pytest.raises(InvalidSetting, match="no keyring that a service can use") as caught:
            KeyStorage(tmp_path).check()
    finally:
        keyring.set_keyring(before)
    assert "--keys file" in caught.value.hint


def test_without_the_package_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)

    with pytest.raises(InvalidSetting, match="not installed") as caught:
        KeyStorage(tmp_path).check()
    assert "hybridge[keyring]" in caught.value.hint
