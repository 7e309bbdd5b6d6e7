from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.errors import ServerBusy
from relay.core.rendezvous import (
    NOT_ACCEPTED,
    STOPPING,
    UNKNOWN,
    DeadlinePassed,
    DismissListener,
    Event,
    Join,
    ListenerAccepted,
    ListenerRejected,
    PairEnded,
    RefuseSender,
    Rendezvous,
    SenderLeft,
    ServiceStopping,
    State,
    WaitingRoom,
)

_EVENTS: list[Event] = [
    ListenerAccepted("chat"),
    ListenerAccepted(),
    ListenerRejected(450, "Not today"),
    DeadlinePassed(),
    SenderLeft(),
    ServiceStopping(),
    PairEnded(),
]
_histories = st.lists(st.sampled_from(_EVENTS), max_size=12)


@pytest.mark.clause(66, 67)
@pytest.mark.parametrize("subprotocol", ["chat", None])
def test_accepting_joins_with_the_listeners_sub_protocol(subprotocol: str | None) -> None:
    rendezvous = Rendezvous()

    assert rendezvous.handle(ListenerAccepted(subprotocol)) == [Join(subprotocol)]
    assert rendezvous.state is State.JOINED


@pytest.mark.clause(68)
def test_rejecting_refuses_the_sender_in_the_listeners_words_and_dismisses_the_listener() -> None:
    rendezvous = Rendezvous()

    actions = rendezvous.handle(ListenerRejected(450, "Not today"))

    refusal, dismissal = actions
    assert refusal == RefuseSender(450, "Not today", is_verbatim=True)
    assert isinstance(dismissal, DismissListener)
    assert dismissal.status == 410
    assert rendezvous.state is State.ENDED


@pytest.mark.clause(72)
def test_the_deadline_refuses_the_sender() -> None:
    rendezvous = Rendezvous()

    assert rendezvous.handle(DeadlinePassed()) == [RefuseSender(404, NOT_ACCEPTED)]
    assert rendezvous.state is State.ENDED


def test_a_service_that_stops_refuses_the_sender_with_503() -> None:
    assert Rendezvous().handle(ServiceStopping()) == [RefuseSender(503, STOPPING)]


def test_a_joined_connection_goes_on_while_the_service_stops() -> None:
    rendezvous = Rendezvous()
    rendezvous.handle(ListenerAccepted())

    assert rendezvous.handle(ServiceStopping()) == []
    assert rendezvous.state is State.JOINED


_WAYS_TO_BE_OVER: list[Event] = [
    ListenerAccepted(),
    ListenerRejected(403, "no"),
    DeadlinePassed(),
    SenderLeft(),
    ServiceStopping(),
]


@pytest.mark.clause(71, 72, 73)
@pytest.mark.parametrize("before", _WAYS_TO_BE_OVER)
@pytest.mark.parametrize("late", [ListenerAccepted("chat"), ListenerRejected(403, "no")])
def test_a_late_or_second_visit_is_turned_away(before: Event, late: Event) -> None:
    rendezvous = Rendezvous()
    rendezvous.handle(before)
    state = rendezvous.state

    assert rendezvous.handle(late) == [DismissListener(403, UNKNOWN)]
    assert rendezvous.state is state


def test_the_status_for_a_late_visit_is_a_setting() -> None:
    rendezvous = Rendezvous(unknown_status=400)
    rendezvous.handle(SenderLeft())

    assert rendezvous.handle(ListenerAccepted()) == [DismissListener(400, UNKNOWN)]


@given(_histories)
def test_whatever_happens_a_sender_is_joined_or_refused_at_most_once(history: list[Event]) -> None:
    rendezvous = Rendezvous()

    actions = [action for event in history for action in rendezvous.handle(event)]

    assert sum(isinstance(action, Join | RefuseSender) for action in actions) <= 1


@given(_histories)
def test_every_visit_of_a_listener_is_answered_exactly_once(history: list[Event]) -> None:
    rendezvous = Rendezvous()
    for event in history:
        answers = [
            action
            for action in rendezvous.handle(event)
            if isinstance(action, Join | DismissListener)
        ]
        assert len(answers) == isinstance(event, ListenerAccepted | ListenerRejected)


@given(_histories)
def test_what_has_ended_does_not_begin_again(history: list[Event]) -> None:
    rendezvous = Rendezvous()
    states = []
    for event in history:
        rendezvous.handle(event)
        states.append(list(State).index(rendezvous.state))

    assert states == sorted(states)


# --- the waiting room ----------------------------------------------------------------------------


def _counting() -> Callable[[int], bytes]:
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def test_each_entry_is_found_by_its_own_secret_of_128_bits() -> None:
    room: WaitingRoom[str] = WaitingRoom(limit=10, make_secret=_counting())

    secrets = [room.add(entry) for entry in ("same", "same", "other")]

    assert secrets == [f"{number:032x}" for number in (1, 2, 3)]
    assert [room.find(secret) for secret in secrets] == ["same", "same", "other"]
    assert list(room) == ["same", "same", "other"]
    assert room.find("") is None


def test_one_too_many_is_refused_until_another_has_gone() -> None:
    room: WaitingRoom[str] = WaitingRoom(limit=2, make_secret=_counting())
    first = room.add("first")
    room.add("second")

    with pytest.raises(ServerBusy, match="2 connections wait") as caught:
        room.add("third")
    room.remove(first)
    room.remove(first)

    assert caught.value.status == 503
    assert room.find(room.add("third")) == "third"
    assert len(room) == 2


def test_entries_may_go_while_they_are_looped_over() -> None:
    room: WaitingRoom[str] = WaitingRoom(limit=10, make_secret=_counting())
    secrets = iter([room.add("a"), room.add("b")])

    for _ in room:
        room.remove(next(secrets))

    assert len(room) == 0
