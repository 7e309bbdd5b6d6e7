"""Control-channel messages: what relay and listener say to each other.

Each is one WebSocket text message with one JSON object with one key. The relay sends ``accept`` and
``request``, a listener ``response`` and ``renewToken``. This is the vocabulary of the protocol.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias

from hybridge.protocol.errors import MalformedMessage
from hybridge.protocol.secret import Secret

MAX_MESSAGE_BYTES = 65_536
"""Largest message, as UTF-8: Microsoft's SDKs read into buffers of this size."""

MAX_RENDEZVOUS_REQUEST_BYTES = 262_144
"""Largest ``request`` on a rendezvous socket: there the headers go that fit no control message."""

MAX_DEPTH = 16
"""Most objects and lists inside one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteEndpoint:
    """Where a sender comes from."""

    address: str
    """IPv4 or IPv6 address as text, without brackets."""

    port: int

    @classmethod
    def from_fields(cls, what: str, value: object) -> Self:
        fields = _object(what, value)
        port = fields.get("port")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
            raise MalformedMessage(f"{what}.port is not a port number")
        return cls(address=_text(what, fields, "address"), port=port)

    def to_fields(self) -> dict[str, object]:
        return {"address": self.address, "port": self.port}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """Tells a listener that a sender waits at a rendezvous address.

    The relay sends it as one text message; the listener never answers it on the control channel.
    Clause 61.
    """

    address: str = field(repr=False)
    """Rendezvous URL. Used unchanged, and good for one connection. Whoever knows it may use it."""

    id: str
    """Names the connection in the logs of all three programs."""

    connect_headers: Mapping[str, str] = field(repr=False)
    """The sender's HTTP headers, spelled as they came."""

    remote_endpoint: RemoteEndpoint | None = None
    """The sender; our relay always says it, and Microsoft's Java SDK needs it."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> Self:
        return cls(
            address=_text("accept", fields, "address"),
            id=_text("accept", fields, "id"),
            connect_headers=_headers("accept", fields, "connectHeaders"),
            remote_endpoint=_remote_endpoint("accept", fields),
        )

    def to_fields(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "address": self.address,
            "id": self.id,
            "connectHeaders": dict(self.connect_headers),
        }
        if self.remote_endpoint is not None:
            fields["remoteEndpoint"] = self.remote_endpoint.to_fields()
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Hands a listener an HTTP request, or only the address where it waits. Clauses 91, 93.

    With ``method`` None it is the short form: the listener dials ``address``, and gets the whole
    message there. Only ``address`` is then set.
    """

    address: str = field(repr=False)
    """Rendezvous URL, for a request or a response that the control channel does not carry."""

    id: str | None = None
    """Names the request; the response repeats it."""

    request_target: str | None = field(default=None, repr=False)
    """Decoded path and raw query, from the hybrid connection's name on."""

    method: str | None = None

    remote_endpoint: RemoteEndpoint | None = None

    request_headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    body: bool = False
    """Whether exactly one binary message with the body follows on the same channel."""

    @property
    def is_complete(self) -> bool:
        """Whether the request itself is in here, and not only its address."""
        return self.method is not None

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> Self:
        address = _text("request", fields, "address")
        if fields.get("method") is None:
            return cls(address=address)
        return cls(
            address=address,
            id=_text("request", fields, "id"),
            request_target=_text("request", fields, "requestTarget"),
            method=_text("request", fields, "method"),
            remote_endpoint=_remote_endpoint("request", fields),
            request_headers=_headers("request", fields, "requestHeaders"),
            body=_flag("request", fields, "body"),
        )

    def to_fields(self) -> dict[str, object]:
        fields: dict[str, object] = {"address": self.address}
        if not self.is_complete:
            return fields
        fields["id"] = self.id
        fields["requestTarget"] = self.request_target
        fields["method"] = self.method
        if self.remote_endpoint is not None:
            fields["remoteEndpoint"] = self.remote_endpoint.to_fields()
        fields["requestHeaders"] = dict(self.request_headers)
        fields["body"] = self.body
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Answers a `Request`. Clause 99."""

    request_id: str
    """The `Request.id` it answers."""

    status_code: int
    """200 to 999."""

    status_description: str | None = None
    """Reason phrase; None for the usual one of the status."""

    response_headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    body: bool = False
    """Whether one binary message with the body follows on the same channel."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> Self:
        description = fields.get("statusDescription")
        if description is not None:
            description = _text("response", fields, "statusDescription")
            if _CONTROLS.search(description):
                raise MalformedMessage("response.statusDescription has control characters")
        return cls(
            request_id=_text("response", fields, "requestId"),
            status_code=_status("response", fields.get("statusCode")),
            status_description=description,
            response_headers=_checked_headers("response", fields, "responseHeaders"),
            body=_flag("response", fields, "body"),
        )

    def to_fields(self) -> dict[str, object]:
        fields: dict[str, object] = {"requestId": self.request_id, "statusCode": self.status_code}
        if self.status_description is not None:
            fields["statusDescription"] = self.status_description
        fields["responseHeaders"] = dict(self.response_headers)
        fields["body"] = self.body
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableResponse:
    """A ``response`` that names its request and cannot be sent on: that request alone fails."""

    request_id: str

    problem: str
    """What is wrong with it, one line."""

    body: bool
    """Whether a binary message follows, to be dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewToken:
    """Gives the relay a new token for an open control channel; no answer. Clauses 46, 47."""

    token: Secret
    """Empty if the message held no text there: the relay then refuses it like any bad token."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> Self:
        token = fields.get("token")
        return cls(token=Secret(token if isinstance(token, str) else ""))

    def to_fields(self) -> dict[str, object]:
        return {"token": self.token.reveal()}


@dataclass(frozen=True, slots=True)
class Unknown:
    """A command that we do not know; it is ignored. Clause 55."""

    name: str


Message: TypeAlias = Accept | Request | Response | RenewToken


def parse(text: str, *, max_bytes: int = MAX_MESSAGE_BYTES) -> Message | UnusableResponse | Unknown:
    """Read one control-channel message. What we do not know in it is ignored.

    Raises:
        MalformedMessage: Over ``max_bytes``, no JSON, deeper than `MAX_DEPTH`, a name twice,
            no object with exactly one key, or what we need is missing or of the wrong type.
    """
    if len(text) > max_bytes or len(text.encode("utf-8", "replace")) > max_bytes:
        raise MalformedMessage(f"the message is larger than {max_bytes} bytes")
    try:
        document: object = json.loads(
            text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise MalformedMessage("the message is not JSON") from None
    _check_depth(document)
    if not isinstance(document, dict) or len(document) != 1:
        raise MalformedMessage("the message is not an object with exactly one key")
    ((name, value),) = document.items()
    match name:
        case "accept":
            return Accept.from_fields(_object(name, value))
        case "request":
            return Request.from_fields(_object(name, value))
        case "response":
            return _response(_object(name, value))
        case "renewToken":
            return RenewToken.from_fields(value if isinstance(value, dict) else {})
        case _:
            return Unknown(name)


def serialize(message: Message, *, max_bytes: int = MAX_MESSAGE_BYTES) -> str:
    """Write one control-channel message as compact JSON in ASCII.

    Raises:
        MalformedMessage: It is larger than ``max_bytes``, so no peer would take it.
    """
    text = json.dumps({_NAMES[type(message)]: message.to_fields()}, separators=(",", ":"))
    if len(text) > max_bytes:
        raise MalformedMessage(f"the message is larger than {max_bytes} bytes")
    return text


_NAMES = {Accept: "accept", Request: "request", Response: "response", RenewToken: "renewToken"}
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def _response(fields: Mapping[str, object]) -> Response | UnusableResponse:
    try:
        return Response.from_fields(fields)
    except MalformedMessage as error:
        # A listener serves many requests over one channel: one bad answer must not end the others.
        request_id = _text("response", fields, "requestId")
        return UnusableResponse(
            request_id=request_id, problem=str(error), body=fields.get("body") is True
        )


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name is there twice")
    return fields


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _check_depth(document: object) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return
        level = below
    if any(isinstance(value, dict | list) for value in level):
        raise MalformedMessage(f"the message is deeper than {MAX_DEPTH} levels")


def _object(what: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise MalformedMessage(f"{what} is not an object")
    return value


def _text(what: str, fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise MalformedMessage(f"{what}.{name} is not a text")
    return _encodable(f"{what}.{name}", value)


def _encodable(what: str, text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise MalformedMessage(f"{what} is not Unicode text") from None
    return text


def _flag(what: str, fields: Mapping[str, object], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise MalformedMessage(f"{what}.{name} is not true or false")
    return bool(value)


def _status(what: str, value: object) -> int:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)  # Some listeners send the number as text (7.4).
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 999:
        raise MalformedMessage(f"{what}.statusCode is not a status from 200 to 999")
    return value


def _headers(what: str, fields: Mapping[str, object], name: str) -> dict[str, str]:
    value = fields.get(name)
    if value is None:
        return {}
    headers: dict[str, str] = {}
    for key, text in _object(f"{what}.{name}", value).items():
        if not isinstance(text, str):
            raise MalformedMessage(f"{what}.{name} has a value that is not a text")
        headers[_encodable(f"{what}.{name}", key)] = _encodable(f"{what}.{name}", text)
    return headers


def _checked_headers(what: str, fields: Mapping[str, object], name: str) -> dict[str, str]:
    headers = _headers(what, fields, name)
    for key, text in headers.items():
        if _HEADER_NAME.fullmatch(key) is None or _CONTROLS.search(text):
            raise MalformedMessage(f"{what}.{name} has a header that HTTP cannot carry")
    return headers


def _remote_endpoint(what: str, fields: Mapping[str, object]) -> RemoteEndpoint | None:
    value = fields.get("remoteEndpoint")
    if value is None:
        return None
    return RemoteEndpoint.from_fields(f"{what}.remoteEndpoint", value)
