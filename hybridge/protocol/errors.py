"""Every error raised on purpose.

One tree under `RelayError`. Each error is one line that says what happened and to what; `hint` says
what to try next; `status` is the HTTP status it stands for on the wire, where there is one. No
message holds a key or a token.
"""

from hybridge.protocol.redaction import one_line


class RelayError(Exception):
    """Something went wrong that a person can do something about."""

    status: int | None = None
    """HTTP status that says the same on the wire, or None."""

    hint: str = ""
    """What to try next, one line."""

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint
        if status is not None:
            self.status = status


# --- What a user or a caller wrote ---------------------------------------------------------------


class InvalidSetting(RelayError):
    """A setting, a flag or a line of a file cannot be used."""

    def __init__(self, setting: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{setting}: {problem}", hint=hint)
        self.setting = setting


class MalformedConnectionString(InvalidSetting):
    """The text is not a connection string (section 2 of the specification)."""

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__("connection string", problem, hint=hint)


# --- What came over the wire ---------------------------------------------------------------------


class MalformedAddress(RelayError):
    """A URL or request target is not an address of a hybrid connection."""

    status = 400


class MalformedRequest(RelayError):
    """An HTTP request head breaks the rules that keep two parsers of one mind."""

    status = 400


class MalformedMessage(RelayError):
    """A control-channel message is not what the protocol says."""


class ProtocolViolation(RelayError):
    """A peer broke the WebSocket framing rules."""

    close_code = 1002


# --- Authorization (401) -------------------------------------------------------------------------


class AuthorizationFailed(RelayError):
    """The token does not open what was asked for."""

    status = 401


class MissingToken(AuthorizationFailed):
    """The request carries no token."""


class MalformedToken(AuthorizationFailed):
    """The token cannot be read."""


class InvalidSignature(AuthorizationFailed):
    """No key of the rule made this signature."""


class InvalidAudience(AuthorizationFailed):
    """The token is for another namespace or path."""


class ExpiredToken(AuthorizationFailed):
    """The token's time is over."""


class ClaimMissing(AuthorizationFailed):
    """The token is valid, but its rule does not grant what the action needs."""


# --- What the relay answers ----------------------------------------------------------------------


class EndpointNotFound(RelayError):
    """The namespace or hybrid connection does not exist, or nobody listens there."""

    status = 404


class QuotaExceeded(RelayError):
    """A named limit of the relay is reached."""

    status = 429


class ServerBusy(RelayError):
    """The relay takes no more work just now."""

    status = 503


class Stopping(ServerBusy):
    """Our own end stops, and finishes only what is joined already."""


class HandshakeRefused(RelayError):
    """The other end answered a WebSocket handshake with an HTTP status.

    `status` and `reason` are what it said, unchanged; in the message keys and signatures that it
    repeats are left out.
    """

    def __init__(self, status: int, reason: str, *, hint: str = "") -> None:
        super().__init__(one_line(f"{status} {reason}"), hint=hint, status=status)
        self.reason = reason


class BodyTooLarge(RelayError):
    """The body of a request is longer than its reader allows."""

    status = 413


class ApplicationFailed(RelayError):
    """An application that is served said that it cannot start."""


# --- The network ---------------------------------------------------------------------------------


class Unreachable(RelayError):
    """No connection could be made: name, route, port, TLS or time."""


class TargetRefused(Unreachable):
    """The target answered that nothing listens there, or cannot be found."""

    status = 502


class TargetTimedOut(Unreachable):
    """The target did not answer in time."""

    status = 504


class UntrustedCertificate(Unreachable):
    """The peer's certificate is not for this name, not in time, or not from a trusted authority."""

    issuer: str | None = None
    """Who signed it, where nobody we trust did: an inspecting proxy's authority, for instance."""


class ProxyFailed(Unreachable):
    """The proxy on the way to the relay has opened no tunnel."""


class ProxyUnreachable(ProxyFailed):
    """The proxy itself cannot be reached, or did not answer in time."""


class ProxyCredentialsRefused(ProxyFailed):
    """The proxy wants a user name and a password, or others than it was given."""


class ProxyRefused(ProxyFailed):
    """The proxy answered that it does not lead, or cannot lead, to the relay."""


class ProxyGarbled(ProxyFailed):
    """What answered is no proxy of the kind that was named, or broke off."""


class ConnectionLost(RelayError):
    """An established connection broke: what had arrived may be incomplete."""
