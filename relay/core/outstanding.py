"""The HTTP requests that one control channel carries, and what its messages mean for them (7.4)."""

from __future__ import annotations

from itertools import groupby

from hybridge.protocol.messages import Response, UnusableResponse
from relay.core.listeners import Answers
from relay.core.request_events import (
    Channel,
    ControlChannelLost,
    Event,
    ResponseBody,
    ResponseEnded,
    ResponseStarted,
    ResponseUnusable,
)
from relay.core.request_flow import BODY_MISSING, UNUSABLE


class Outstanding:
    """Tells each request of its response and body, in whatever order the listener answers.

    A ``response`` that names no request of this channel is ignored (118), and so is a binary
    message that was not announced (104). `deliver` hands on what one read of the socket brought.
    """

    def __init__(self) -> None:
        self._requests: dict[str, Answers] = {}
        self._is_body_due = False
        self._is_in_body = False
        self._body_for: Answers | None = None
        self._pieces: list[bytes] = []
        self._batch: list[tuple[Answers, Event]] = []

    @property
    def is_idle(self) -> bool:
        """Whether the listener owes nothing on this channel."""
        return not (self._requests or self._is_body_due or self._is_in_body)

    def add(self, request_id: str, answers: Answers) -> None:
        """Expect an answer."""
        self._requests[request_id] = answers

    def forget(self, request_id: str) -> None:
        """Expect no answer any more; what comes all the same is dropped."""
        self._requests.pop(request_id, None)

    def response(self, message: Response | UnusableResponse) -> None:
        """Hear of a ``response``; a second one for the same request is ignored."""
        answers = self._requests.pop(message.request_id, None)
        self._is_body_due = message.body
        self._body_for = answers
        if answers is None:
            return
        if isinstance(message, Response):
            self._note(ResponseStarted(Channel.CONTROL, message))
        else:
            self._note(ResponseUnusable(Channel.CONTROL, f"{UNUSABLE}: {message.problem}."))
        if not (message.body and isinstance(message, Response)):
            self._body_for = None

    def text_began(self) -> None:
        """Hear of a command: a body that was due does not come any more."""
        if self._is_body_due:
            self._is_body_due = False
            self._note(ResponseUnusable(Channel.CONTROL, BODY_MISSING))
            self._body_for = None

    def binary_began(self) -> None:
        """Hear of a binary message: a body, or a stray one."""
        self._is_in_body, self._is_body_due = self._is_body_due, False

    def binary(self, data: bytes, *, is_last: bool) -> None:
        """Take some of the binary message."""
        if not self._is_in_body:
            return
        if data:
            self._pieces.append(data)
        if is_last:
            self._is_in_body = False
            self._flush_pieces()
            self._note(ResponseEnded(Channel.CONTROL))
            self._body_for = None

    def deliver(self) -> None:
        """Hand on what has come since the last time."""
        self._flush_pieces()
        batch, self._batch = self._batch, []
        for _, pairs in groupby(batch, key=lambda pair: id(pair[0])):
            group = list(pairs)
            group[0][0].take([event for _, event in group])

    def lost(self) -> None:
        """Hear that the channel is gone."""
        self.deliver()
        waiting = list(self._requests.values())
        if self._body_for is not None:
            waiting.append(self._body_for)
        self._requests.clear()
        self._is_body_due = self._is_in_body = False
        self._body_for = None
        for answers in waiting:
            answers.take([ControlChannelLost()])

    def _flush_pieces(self) -> None:
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            self._note(ResponseBody(Channel.CONTROL, b"".join(pieces)))

    def _note(self, event: Event) -> None:
        if self._body_for is not None:
            self._batch.append((self._body_for, event))
