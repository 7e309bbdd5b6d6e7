"""The verbs' side: HTTP to the service, errors as it told them."""

from __future__ import annotations

import contextlib
import hmac
import http.client
import json
import secrets
from typing import TYPE_CHECKING

from hcm_agent.control.door import PROOF_PATH, ServiceNotRunning, connect, proof_of
from hybridge.protocol.errors import InvalidSetting, RelayError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from hcm_agent.state_directory import StateDirectory

ANSWER_SECONDS = 30.0
"""How long the service may take; the longest verb waits for an endpoint."""

MAX_PROOF_BYTES = 64
"""Of what shows that a service is the one that wrote the token."""


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket that is connected already."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__("hcm")
        self.sock = sock
        self.auto_open = 0  # Nobody else is to be asked when that one hangs up.


class ServiceClient:
    """Speaks to the service of one state directory; each question is a connection.

    Args:
        state: The directory; None where the service was told to have none.
    """

    def __init__(self, state: StateDirectory | None) -> None:
        if state is None:
            raise InvalidSetting(
                "--state", "a service with the state 'none' has no verbs", hint="name its directory"
            )
        self._state = state

    def get(self, path: str) -> object:
        """Ask for something.

        Raises:
            NotOurs: The socket is another user's.
            RelayError: What the service says is wrong.
            ServiceNotRunning: Nobody answers.
        """
        return self._ask("GET", path, None)

    def post(self, path: str, **fields: object) -> dict[str, object]:
        """Do something; errors as for `get`.

        Raises:
            InvalidSetting: The service says that a value cannot be used.
        """
        found = self._ask("POST", path, json.dumps(fields).encode())
        if not isinstance(found, dict):
            raise self._other_version()
        return found

    def lines(self, path: str) -> Iterator[str]:
        """Give the lines of an answer as they come, until the service ends; errors as for `get`."""
        with self._opened(timeout_seconds=None) as (connection, headers):
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                raise self._unheard(response.status)
            for line in response:
                yield line.decode(errors="replace").rstrip("\n")

    def _ask(self, method: str, path: str, body: bytes | None) -> object:
        with self._opened(timeout_seconds=ANSWER_SECONDS) as (connection, headers):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read()
        try:
            found: object = json.loads(data)
        except ValueError:
            raise self._unheard(response.status) from None
        if response.status == 200:
            return found
        raise _told(found)

    @contextlib.contextmanager
    def _opened(
        self, *, timeout_seconds: float | None
    ) -> Iterator[tuple[http.client.HTTPConnection, dict[str, str]]]:
        sock, token = connect(self._state, timeout_seconds=timeout_seconds)
        try:
            with contextlib.closing(_Connection(sock)) as connection:
                headers: dict[str, str] = {}
                if token:
                    sock.settimeout(ANSWER_SECONDS)
                    self._check_knows(token, connection)
                    sock.settimeout(timeout_seconds)
                    headers["Authorization"] = f"Bearer {token}"
                yield connection, headers
        except TimeoutError:
            raise RelayError(
                f"the service in {self._state.path} does not answer",
                hint="look into its log, or start it again",
            ) from None
        except (OSError, http.client.HTTPException):
            raise ServiceNotRunning(self._state) from None

    def _check_knows(self, token: str, connection: _Connection) -> None:
        """Tell nothing to a stranger who has the port of a service that was killed."""
        question = secrets.token_urlsafe(32)
        connection.request("GET", f"{PROOF_PATH}?question={question}")
        told = connection.getresponse().read(MAX_PROOF_BYTES)
        if not hmac.compare_digest(told, proof_of(token, question).encode()):
            raise ServiceNotRunning(self._state)

    def _unheard(self, status: int) -> RelayError:
        """Say why an answer is not one of a verb's."""
        if status == 503:
            return RelayError(
                f"the service in {self._state.path} answers as many verbs as it can",
                hint="try again; 'hcm list --watch' and 'hcm logs --follow' are verbs that go on",
            )
        if status == 500:
            return RelayError(
                f"the service in {self._state.path} failed to answer",
                hint="'hcm logs' shows why; report this bug",
            )
        return self._other_version()

    def _other_version(self) -> RelayError:
        return RelayError(
            f"what answers in {self._state.path} is not this version of hcm",
            hint="start the service again, so that it is of the same version",
        )


def _told(found: object) -> RelayError:
    fields = found if isinstance(found, dict) else {}
    message = str(fields.get("error", "the service refused"))
    hint = str(fields.get("hint", ""))
    if fields.get("isUsage") is True:
        setting, _, problem = message.partition(": ")
        return InvalidSetting(setting, problem, hint=hint)
    return RelayError(message, hint=hint)
