"""What the messages of one control channel mean for the requests that it carries (7.4)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hybridge.protocol.messages import Response, UnusableResponse
from relay.core.outstanding import Outstanding
from relay.core.request_events import (
    Channel,
    ControlChannelLost,
    Event,
    ResponseBody,
    ResponseEnded,
    ResponseStarted,
    ResponseUnusable,
)

CONTROL = Channel.CONTROL


class Request:
    """A request that remembers what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches = 0

    def take(self, events: Sequence[Event]) -> None:
        self.events += events
        self.batches += 1


def answer(request_id: str, *, body: bool) -> Response:
    return Response(request_id=request_id, status_code=200, body=body)


@pytest.fixture
def two() -> tuple[Outstanding, Request, Request]:
    outstanding, one, other = Outstanding(), Request(), Request()
    outstanding.add("1", one)
    outstanding.add("2", other)
    return outstanding, one, other


@pytest.mark.clause(116)
def test_answers_in_any_order_reach_their_requests(
    two: tuple[Outstanding, Request, Request],
) -> None:
    outstanding, one, other = two

    outstanding.response(answer("2", body=True))
    outstanding.binary_began()
    outstanding.binary(b"two", is_last=True)
    outstanding.text_began()
    outstanding.response(answer("1", body=False))
    outstanding.deliver()

    started = ResponseStarted(CONTROL, answer("2", body=True))
    assert other.events == [started, ResponseBody(CONTROL, b"two"), ResponseEnded(CONTROL)]
    assert one.events == [ResponseStarted(CONTROL, answer("1", body=False))]
    assert outstanding.is_idle


def test_many_small_pieces_of_one_read_are_told_once(
    two: tuple[Outstanding, Request, Request],
) -> None:
    outstanding, one, _ = two
    outstanding.response(answer("1", body=True))
    outstanding.deliver()

    outstanding.binary_began()
    for _number in range(1_000):
        outstanding.binary(b"x", is_last=False)
    outstanding.deliver()

    assert one.events[1:] == [ResponseBody(CONTROL, b"x" * 1_000)]
    assert one.batches == 2
    assert not outstanding.is_idle


@pytest.mark.clause(118)
def test_an_answer_to_no_request_of_this_channel_is_dropped_with_its_body(
    two: tuple[Outstanding, Request, Request],
) -> None:
    outstanding, one, other = two
    outstanding.forget("2")

    for request_id in ("2", "somebody else's"):
        outstanding.response(answer(request_id, body=True))
        outstanding.binary_began()
        outstanding.binary(b"dropped", is_last=True)
    outstanding.deliver()

    assert one.events == other.events == []


@pytest.mark.clause(118)
def test_a_second_answer_to_a_request_is_dropped(
    two: tuple[Outstanding, Request, Request],
) -> None:
    outstanding, one, _ = two
    outstanding.response(answer("1", body=False))

    outstanding.response(answer("1", body=True))
    outstanding.binary_began()
    outstanding.binary(b"dropped", is_last=True)
    outstanding.deliver()

    assert len(one.events) == 1


@pytest.mark.clause(104)
def test_a_binary_message_that_was_not_announced_is_dropped(
    two: tuple[Outstanding, Request, Request],
) -> None:
    outstanding, one, _ = two
    outstanding.response(answer("1", body=False))

    outstanding.binary_began()
    outstanding.binary(b"stray", is_last=True)
    outstanding.deliver()

    assert len(one.events) == 1


def test_a_body_that_another_command_takes_the_place_of_fails_that_request_alone(
    two: tuple[Outstanding, Request, Request],
) -> None:
    outstanding, one, other = two
    outstanding.response(answer("1", body=True))

    outstanding.text_began()
    outstanding.response(answer("2", body=False))
    outstanding.deliver()

    assert isinstance(one.events[-1], ResponseUnusable)
    assert other.events == [ResponseStarted(CONTROL, answer("2", body=False))]


def test_an_unusable_response_fails_its_request_and_its_body_is_dropped(
    two: tuple[Outstanding, Request, Request],
) -> None:
    outstanding, one, other = two

    outstanding.response(UnusableResponse(request_id="1", problem="no status", body=True))
    outstanding.binary_began()
    outstanding.binary(b"dropped", is_last=True)
    outstanding.deliver()

    (event,) = one.events
    assert isinstance(event, ResponseUnusable)
    assert "no status" in event.problem
    assert other.events == []


def test_all_that_wait_hear_that_the_channel_is_gone(
    two: tuple[Outstanding, Request, Request],
) -> None:
    outstanding, one, other = two
    outstanding.response(answer("1", body=True))
    outstanding.binary_began()
    outstanding.binary(b"begun", is_last=False)

    outstanding.lost()

    assert one.events[-2:] == [ResponseBody(CONTROL, b"begun"), ControlChannelLost()]
    assert other.events == [ControlChannelLost()]
    assert outstanding.is_idle
