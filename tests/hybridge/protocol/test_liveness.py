from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridge.protocol.liveness import Liveness, Verdict

PING, ANSWER, STALL = 15.0, 10.0, 600.0
END = 3_000.0


class Leg:
    """Runs a `Liveness` against a clock of its own, as the owner of a real leg does."""

    def __init__(self, *, answer: float = ANSWER) -> None:
        self.now = 0.0
        self.is_blocked = False
        self.is_judged = True
        self.pings: list[float] = []
        self.liveness = Liveness(
            0.0, ping_interval_seconds=PING, answer_seconds=answer, stall_seconds=STALL
        )

    def run(self, until: float, *, heard: Iterator[float] | None = None) -> Verdict:
        """Let time pass; ``heard`` gives the times at which bytes arrive, in order."""
        arrival = next(heard, None) if heard else None
        while True:
            check = self.liveness.next_check
            while arrival is not None and arrival <= min(check, until):
                self.hear(arrival)
                arrival = next(heard, None) if heard else None
            if check > until:
                self.now = until
                return Verdict.WAIT
            assert check > self.now or not self.now, "time must go on"
            self.now = check
            verdict = self.liveness.check(
                self.now, is_blocked=self.is_blocked, is_judged=self.is_judged
            )
            if verdict is Verdict.PING:
                self.pings.append(self.now)
                self.liveness.ping_sent(self.now, is_judged=self.is_judged)
            elif verdict is not Verdict.WAIT:
                return verdict

    def hear(self, now: float) -> None:
        self.liveness.heard_at = now


def _every(seconds: float, *, first: float) -> Iterator[float]:
    return (first + seconds * count for count in range(100_000))


def test_a_ping_is_sent_each_interval() -> None:
    leg = Leg()

    assert leg.run(61.0, heard=_every(1.0, first=0.5)) is Verdict.WAIT

    assert leg.pings == [15.0, 30.0, 45.0, 60.0]


@given(st.floats(0.0, 1_000.0))
def test_a_silent_peer_is_seen_within_an_interval_and_the_answer_time(last_heard: float) -> None:
    leg = Leg()
    leg.run(last_heard, heard=_every(0.5, first=0.0))

    assert leg.run(END) is Verdict.DEAD

    assert leg.now - last_heard <= PING + ANSWER + 0.5


@given(st.floats(0.0, PING), st.floats(0.1, PING + ANSWER - 0.1))
def test_a_peer_that_sends_at_least_its_own_pings_is_alive_in_whatever_step(
    first: float, step: float
) -> None:
    leg = Leg()

    assert leg.run(END, heard=_every(step, first=first)) is Verdict.WAIT


@pytest.mark.parametrize("answer", [1.0, 10.0, 15.0, 40.0])
def test_a_silent_peer_is_seen_whatever_the_answer_time(answer: float) -> None:
    leg = Leg(answer=answer)

    assert leg.run(END) is Verdict.DEAD

    assert leg.now == pytest.approx(PING + answer)


def test_a_peer_that_answers_each_ping_late_but_in_time_is_alive() -> None:
    leg = Leg()

    assert leg.run(END, heard=_every(PING, first=PING + ANSWER - 0.1)) is Verdict.WAIT


@pytest.mark.clause(88)
def test_a_leg_whose_writes_are_blocked_is_not_judged_by_missing_answers() -> None:
    leg = Leg()
    leg.is_blocked = True

    assert leg.run(STALL - 1) is Verdict.WAIT
    assert leg.pings == []


def test_a_leg_that_is_blocked_after_the_ping_is_excused() -> None:
    leg = Leg()
    leg.run(16.0)
    leg.is_blocked = True

    assert leg.run(STALL - 1) is Verdict.WAIT


def test_a_leg_that_is_not_read_is_pinged_and_not_judged() -> None:
    leg = Leg()
    leg.is_judged = False

    assert leg.run(END) is Verdict.WAIT

    assert leg.pings[:3] == [15.0, 30.0, 45.0]


def test_an_outstanding_answer_is_excused_when_reading_stops() -> None:
    leg = Leg()
    leg.run(16.0)

    leg.liveness.excuse()

    assert leg.liveness.next_check == 30.0


def test_a_leg_that_is_read_again_has_the_whole_answer_time() -> None:
    leg = Leg()
    leg.is_judged = False
    leg.run(100.0)

    leg.is_judged = True

    assert leg.run(END) is Verdict.DEAD
    assert leg.now == pytest.approx(105.0 + ANSWER)


def test_a_blocked_and_silent_leg_is_dropped_after_the_stall_time() -> None:
    leg = Leg()
    leg.is_blocked = True

    assert leg.run(END) is Verdict.STALLED

    assert STALL <= leg.now <= STALL + 2 * PING


def _hear(leg: Leg) -> None:
    leg.hear(leg.now)


def _move(leg: Leg) -> None:
    leg.liveness.moved = True


@pytest.mark.parametrize("happens", [_hear, _move])
def test_a_blocked_leg_on_which_something_moves_is_kept(happens: Callable[[Leg], None]) -> None:
    leg = Leg()
    leg.is_blocked = True

    for now in range(300, 3_000, 300):
        assert leg.run(float(now)) is Verdict.WAIT
        happens(leg)
