"""The WebSocket library's errors on a control channel, in our own words."""

from __future__ import annotations

from websockets.exceptions import ConnectionClosed, InvalidStatus

from hybridge.protocol.connection_string import ConnectionString
from hybridge.protocol.errors import (
    AuthorizationFailed,
    EndpointNotFound,
    HandshakeRefused,
    RelayError,
    Unreachable,
)
from hybridge.protocol.redaction import one_line
from hybridge.protocol.refusals import authorization_hint


def refusal_of(error: BaseException, target: ConnectionString) -> RelayError:
    """Say in our words why a control channel could not be opened."""
    if isinstance(error, InvalidStatus):
        response = error.response
        reason = response.reason_phrase
        if response.status_code == 404:
            return EndpointNotFound(
                one_line(f"404 {reason}"),
                hint="check the name of the hybrid connection and the namespace",
            )
        if response.status_code == 401:
            return AuthorizationFailed(
                one_line(f"401 {reason}"), hint=authorization_hint(reason, claim="Listen")
            )
        return HandshakeRefused(response.status_code, reason)
    if isinstance(error, TimeoutError):
        return Unreachable(f"the relay {target.host} did not answer in time")
    if isinstance(error, OSError):
        return Unreachable(
            f"the relay {target.host} cannot be reached: {error.strerror or error}",
            hint="check that the relay is running, its name and its port",
        )
    return Unreachable(
        f"the relay {target.host} did not open a control channel: {one_line(str(error))}"
    )


def describe_close(error: ConnectionClosed) -> str:
    """Say how a control channel closed: the relay's code and reason, or that it broke."""
    if error.rcvd is not None:
        return one_line(f"{error.rcvd.code} {error.rcvd.reason}")
    return "the connection broke"
