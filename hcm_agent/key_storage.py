"""The system's keyring, for those who do not want keys in a file."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from hybridge.protocol.errors import InvalidSetting, RelayError

if TYPE_CHECKING:
    from pathlib import Path

_HINT = "unlock it, or keep keys in the state directory's file: --keys file"


class Keys(enum.Enum):
    """Where ``hcm add`` puts connection strings, which hold keys."""

    FILE = "file"
    """The state directory's file, with mode 0600."""

    KEYRING = "keyring"
    """The keyring of the system: Secret Service, KWallet, Keychain, Credential Manager."""


class KeyringUnusable(RelayError):
    """The system's keyring is locked, or there is none."""


class Keyring(Protocol):
    """The part of the package `keyring` that is needed here."""

    def get_password(self, service_name: str, username: str) -> str | None: ...

    def set_password(self, service_name: str, username: str, password: str) -> None: ...

    def delete_password(self, service_name: str, username: str) -> None: ...


class KeyStorage:
    """The connection strings of one service in the system's keyring.

    The package is imported when it is needed: few need it, and it takes time. Each call may wait
    for the keyring, and the keyring for its user.

    Args:
        state: The service's state directory: two services do not share what is theirs.
    """

    def __init__(self, state: Path) -> None:
        self._service = f"hybridge hcm {state}"
        self._known: dict[str, str] = {}

    def check(self) -> None:
        """Make sure that there is a keyring.

        Raises:
            InvalidSetting: The package is not installed, or finds none.
        """
        if type(_keyring()).__module__ == "keyring.backends.fail":
            raise InvalidSetting(
                "--keys",
                "this system has no keyring that a service can use",
                hint="keep keys in the state directory's file, mode 0600: --keys file",
            )

    def get(self, account: str) -> str:
        """Give what was put under an account; asked once.

        Raises:
            InvalidSetting: The package is not installed.
            KeyringUnusable: It is locked, or has nothing of that name.
        """
        if account not in self._known:
            keyring = _keyring()
            try:
                found = keyring.get_password(self._service, account)
            except _errors() as error:
                raise KeyringUnusable(f"the keyring cannot be read: {error}", hint=_HINT) from None
            if found is None:
                raise KeyringUnusable(
                    f"the keyring has no connection string of {account!r} any more",
                    hint="unlock the keyring it was put into, or remove the entry from the file",
                )
            self._known[account] = found
        return self._known[account]

    def put(self, account: str, text: str) -> None:
        """Keep a connection string under an account.

        Raises:
            InvalidSetting: The package is not installed.
            KeyringUnusable: It does not take it.
        """
        if self._known.get(account) == text:
            return
        keyring = _keyring()
        try:
            keyring.set_password(self._service, account, text)
        except _errors() as error:
            raise KeyringUnusable(f"the keyring takes no key: {error}", hint=_HINT) from None
        self._known[account] = text

    def forget(self, account: str) -> None:
        """Delete what is under an account; it may be gone already.

        Raises:
            InvalidSetting: The package is not installed.
            KeyringUnusable: It is locked.
        """
        self._known.pop(account, None)
        from keyring.errors import PasswordDeleteError

        keyring = _keyring()
        try:
            keyring.delete_password(self._service, account)
        except PasswordDeleteError:
            return
        except _errors() as error:
            raise KeyringUnusable(f"the keyring keeps its key: {error}", hint=_HINT) from None


def _keyring() -> Keyring:
    try:
        import keyring
    except ImportError:
        raise InvalidSetting(
            "--keys",
            "the package keyring is not installed",
            hint="pip install 'hybridge[keyring]', or keep keys in the file: --keys file",
        ) from None
    return keyring.get_keyring()


def _errors() -> tuple[type[Exception], ...]:
    from keyring.errors import KeyringError

    return (KeyringError,)
