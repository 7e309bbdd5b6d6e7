from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.errors import EndpointNotFound, QuotaExceeded
from hybridge.protocol.messages import RemoteEndpoint
from relay.core.listeners import (
    ALL_EXCLUDED,
    MAX_LISTENERS,
    NO_LISTENERS,
    Answers,
    Criteria,
    Invitation,
    Listeners,
    RequestInvitation,
)
from relay.core.request_flow import Form

ENTITY = "ns1/hc1"
INVITATION = Invitation(
    id="7f1c2c1e-3c0e-4a53-9f0b-2b1f6a1d9c11_G5",
    path="hc1",
    query="",
    secret="0" * 32,
    connect_headers={},
    remote_endpoint=RemoteEndpoint(address="192.0.2.7", port=51_515),
)
ALLOWED = "Microsoft-Relay-AllowedListeners"
DISALLOWED = "Microsoft-Relay-DisallowedListeners"


class Channel:
    """A control channel that remembers what it was told."""

    def __init__(self, *, is_too_small: bool = False) -> None:
        self.invitations: list[Invitation] = []
        self.requests: list[RequestInvitation] = []
        self.forgotten: list[str] = []
        self.closes: list[int] = []
        self._is_too_small = is_too_small

    def invite(self, invitation: Invitation) -> None:
        if self._is_too_small:
            raise QuotaExceeded("the headers are too large")
        self.invitations.append(invitation)

    def request(self, invitation: RequestInvitation, answers: Answers) -> tuple[str, Form]:
        self.requests.append(invitation)
        return "wss://relay/address", Form.CONTROL_CHANNEL

    def forget(self, request_id: str) -> None:
        self.forgotten.append(request_id)

    def retire(self, code: int, reason: str) -> None:
        self.closes.append(code)

    def close(self, code: int, reason: str) -> None:
        self.closes.append(code)


def first(candidates: Sequence[str]) -> str:
    return candidates[0]


# --- Who is online -------------------------------------------------------------------------------


async def test_nobody_is_online_at_first() -> None:
    directory = Listeners(first)

    assert directory.count(ENTITY) == 0
    assert directory.entities() == []
    with pytest.raises(EndpointNotFound, match=NO_LISTENERS) as refused:
        await directory.invite(ENTITY, INVITATION, Criteria())
    assert refused.value.status == 404


@pytest.mark.clause(57)
def test_one_listener_too_many_is_refused_with_the_status_that_is_set() -> None:
    directory = Listeners(first, limit_status=403)
    for number in range(MAX_LISTENERS):
        directory.register(ENTITY, f"listener-{number}", Channel())

    with pytest.raises(QuotaExceeded, match="maximum number of listeners") as refused:
        directory.register(ENTITY, "one-more", Channel())

    assert MAX_LISTENERS == 25
    assert refused.value.status == 403
    assert directory.count(ENTITY) == 25
    directory.register("ns1/hc2", "one-more", Channel())


def test_the_same_listener_again_replaces_its_older_channel_even_when_all_are_there() -> None:
    directory = Listeners(first, limit=1)
    old, new = Channel(), Channel()
    directory.register(ENTITY, "Listener", old)

    directory.register(ENTITY, "LISTENER", new)

    assert (old.closes, new.closes) == ([1001], [])
    assert list(directory.channels(ENTITY)) == [new]
    # The old channel ends a little later, and must not take the new one with it.
    directory.unregister(ENTITY, "listener", old)
    assert list(directory.channels(ENTITY)) == [new]


def test_who_leaves_makes_room_and_may_leave_twice() -> None:
    directory = Listeners(first, limit=1)
    channel = Channel()
    directory.register(ENTITY, "a", channel)

    directory.unregister(ENTITY, "a", channel)
    directory.unregister(ENTITY, "a", channel)

    assert directory.entities() == []
    directory.register(ENTITY, "b", Channel())
    assert directory.count(ENTITY) == 1


def test_channels_may_be_closed_while_they_are_listed() -> None:
    directory = Listeners(first)
    channels = {name: Channel() for name in "abc"}
    for name, channel in channels.items():
        directory.register(ENTITY, name, channel)

    for name, listed in zip("abc", directory.channels(ENTITY), strict=True):
        directory.unregister(ENTITY, name, listed)

    assert directory.count(ENTITY) == 0


# --- Who is told ---------------------------------------------------------------------------------


@pytest.mark.clause(58)
async def test_each_sender_goes_to_one_listener_chosen_at_random() -> None:
    directory = Listeners(random.Random(7).choice)  # noqa: S311 - a seed, for the same run each time
    channels = [Channel() for _ in range(5)]
    for number, channel in enumerate(channels):
        directory.register(ENTITY, f"listener-{number}", channel)

    chosen = Counter([await directory.invite(ENTITY, INVITATION, Criteria()) for _ in range(500)])

    assert sum(len(channel.invitations) for channel in channels) == 500
    assert all(70 <= len(channel.invitations) <= 130 for channel in channels)
    assert sorted(chosen) == [f"listener-{number}" for number in range(5)]


async def test_a_listener_whose_message_would_be_too_large_stays_online() -> None:
    directory = Listeners(first)
    directory.register(ENTITY, "a", Channel(is_too_small=True))

    with pytest.raises(QuotaExceeded):
        await directory.invite(ENTITY, INVITATION, Criteria())

    assert directory.count(ENTITY) == 1


@pytest.mark.clause(59, 60)
@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ([], "abc"),
        ([(ALLOWED, "a")], "a"),
        ([(ALLOWED, " A ,c")], "ac"),
        ([(ALLOWED.lower(), "a"), (ALLOWED.upper(), "b")], "ab"),
        ([(ALLOWED, "x")], ""),
        ([(ALLOWED, "")], "abc"),
        ([(ALLOWED, " , ")], "abc"),
        ([(DISALLOWED, "a")], "bc"),
        ([(DISALLOWED, "A,b , C")], ""),
        ([(DISALLOWED, "x,")], "abc"),
        ([(ALLOWED, "a,b"), (DISALLOWED, "b")], "a"),
        ([(ALLOWED, "a"), (DISALLOWED, "a")], ""),
        ([("X-AllowedListeners", "x")], "abc"),
    ],
)
async def test_a_sender_says_who_may_be_told(headers: list[tuple[str, str]], admitted: str) -> None:
    directory = Listeners(first)
    channels = {name: Channel() for name in "aBc"}
    for name, channel in channels.items():
        directory.register(ENTITY, name, channel)
    criteria = Criteria.from_headers(headers)

    for name in "abc":
        assert criteria.admits(name) is (name in admitted)
    if admitted:
        assert await directory.invite(ENTITY, INVITATION, criteria) == admitted[0]
    else:
        with pytest.raises(EndpointNotFound) as refused:
            await directory.invite(ENTITY, INVITATION, criteria)
        assert str(refused.value) == ALL_EXCLUDED
        assert "AllowedListeners/DisallowedListeners" in ALL_EXCLUDED


# --- In any order --------------------------------------------------------------------------------

IDS = st.sampled_from(["a", "A", "b", "c", "d"])


@given(st.lists(st.tuples(st.booleans(), IDS)))
def test_the_count_is_that_of_the_channels_that_came_and_did_not_leave(
    history: list[tuple[bool, str]],
) -> None:
    directory = Listeners(first, limit=3)
    online: dict[str, Channel] = {}
    for arrives, name in history:
        key = name.lower()
        if not arrives:
            directory.unregister(ENTITY, name, online.pop(key, Channel()))
        elif key in online or len(online) < 3:
            replaced = online.get(key)
            online[key] = Channel()
            directory.register(ENTITY, name, online[key])
            assert replaced is None or replaced.closes == [1001]
        else:
            with pytest.raises(QuotaExceeded):
                directory.register(ENTITY, name, Channel())

        assert directory.count(ENTITY) == len(online)
        assert set(directory.channels(ENTITY)) == set(online.values())
        assert not any(channel.closes for channel in online.values())
