"""What a relay is asked about a token, and what its answers mean. Sections 4.2 and 9.1.

The runtime-information GET tells whether the token opens the path. The two rights are asked with
WebSocket handshakes of a version that does not exist: a relay that looks at the token first answers
401 to one that may not, and to one that may it answers which version it speaks. So nobody is
registered as a listener, and no listener is told of a sender. That it looks at the token first is
asked too, by the same handshakes without a token.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from hybridge.protocol import address
from hybridge.protocol.redaction import one_line
from hybridge.protocol.refusals import authorization_hint
from hybridge.protocol.token_faults import Fault, Part, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

API_VERSION = "2016-07"
"""Version of the runtime-information GET."""

NO_SUCH_WEBSOCKET_VERSION = "99"
"""A version of WebSocket that no relay speaks."""


class Question(enum.Enum):
    """One request to a relay, in the order in which they are asked."""

    INFORMATION = "runtime information"
    LISTEN = "listen"
    SEND = "send"
    LISTEN_ANONYMOUSLY = "listen, without a token"
    SEND_ANONYMOUSLY = "send, without a token"

    def request(self, host: str, port: int, path: str, token: str) -> Request:
        """Write the request.

        Args:
            host: The namespace's host.
            port: Its port.
            path: Name of the hybrid connection, in the clear.
            token: What is asked about.
        """
        quoted = quote(path.strip("/"))
        headers = [("Host", address.authority(host, port)), ("Connection", "close")]
        if self is Question.INFORMATION:
            target = f"/{quoted}?api-version={API_VERSION}"
            headers += [("X-PROCESS-AT", "ServiceBus"), ("ServiceBusAuthorization", token)]
            return Request(target, tuple(headers))
        is_listen = self in (Question.LISTEN, Question.LISTEN_ANONYMOUSLY)
        target = f"/$hc/{quoted}?sb-hc-action={'listen' if is_listen else 'connect'}"
        headers[1:] = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", NO_SUCH_WEBSOCKET_VERSION),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ]
        if self in (Question.LISTEN, Question.SEND):
            headers.append(("ServiceBusAuthorization", token))
        return Request(target, tuple(headers))


@dataclass(frozen=True, slots=True)
class Request:
    """A GET without a body."""

    target: str
    headers: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"Request({self.target!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the relay said to one question."""

    status: int
    reason: str
    names_websocket_version: bool = False
    """Whether it has the header ``Sec-WebSocket-Version``: it would speak another one."""

    @property
    def message(self) -> str:
        """The reason up to the TrackingId, fit for a terminal, keys and signatures left out."""
        return one_line(self.reason.partition(" TrackingId:")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayVerdict:
    """What a relay says of a token at one path."""

    opens: bool | None
    """Whether the token is good there, whatever it grants; None if the relay did not say."""

    exists: bool | None
    """Whether there is such a hybrid connection; None if the relay did not say."""

    may_listen: bool | None
    may_send: bool | None
    """Whether the rule has the right; None if that cannot be told without doing it."""

    is_anonymous: bool
    """Whether senders need no token there, so that theirs is not looked at."""

    says: str
    """The relay's own words: status and message of what decided."""

    fault: Fault | None
    """Why the token is not good there."""


def read_answers(answers: Mapping[Question, Answer]) -> RelayVerdict:
    """Say what a relay's answers mean. All questions must have been asked."""
    information = answers[Question.INFORMATION]
    asked = [information, answers[Question.LISTEN], answers[Question.SEND]]
    is_anonymous = answers[Question.SEND_ANONYMOUSLY].status != 401 and (
        answers[Question.LISTEN_ANONYMOUSLY].status == 401
    )
    may_listen = _may(answers[Question.LISTEN], answers[Question.LISTEN_ANONYMOUSLY])
    may_send = _may(answers[Question.SEND], answers[Question.SEND_ANONYMOUSLY])
    opens, deciding = _opens(information), information
    if opens is None and (may_listen or may_send):
        opens = True
    exists = {200: True, 204: False, 404: False}.get(information.status)
    fault = None
    if opens is False:
        fault = _fault(information)
    elif opens is None and all(answer.status == 401 for answer in asked):
        opens, fault = False, _fault(information)
    return RelayVerdict(
        opens=opens,
        exists=exists,
        may_listen=False if opens is False else may_listen,
        may_send=False if opens is False else may_send,
        is_anonymous=is_anonymous,
        says=f"{deciding.status} {deciding.message}".strip(),
        fault=fault,
    )


def _opens(information: Answer) -> bool | None:
    if information.status in (200, 204, 404):
        return True  # Existence is told only to who may know it (clauses 40, 41).
    if information.status == 401:
        # Azure asks for Manage here: a token that lacks only this is good.
        return information.message.startswith(Refusal.CLAIM.value)
    return None


def _may(with_token: Answer, without_token: Answer) -> bool | None:
    if with_token.status == 401:
        return False
    if without_token.status != 401:
        return None  # It looks at other things first, or asks for no token here.
    if with_token.names_websocket_version or with_token.status in (101, 404):
        return True
    return None


def _fault(answer: Answer) -> Fault:
    refusal = next((each for each in Refusal if answer.message.startswith(each.value)), None)
    return Fault(
        part=_PARTS.get(refusal, Part.FORM) if refusal else Part.FORM,
        refusal=refusal or Refusal.MALFORMED,
        problem=f"the relay answers {answer.status} {answer.message}",
        remedy=authorization_hint(answer.message),
    )


_PARTS = {
    Refusal.SIGNATURE: Part.SIGNATURE,
    Refusal.AUDIENCE: Part.AUDIENCE,
    Refusal.EXPIRED: Part.EXPIRY,
    Refusal.CLAIM: Part.CLAIM,
}
