from __future__ import annotations

import pytest

from tests.support.meeting import CONNECT, is_silent, waiting
from tests.support.raw import RelayPeers
from tests.support.relay import RunningRelay


async def _reject(
    relay: RunningRelay, peers: RelayPeers, appended: str, target: str = CONNECT
) -> tuple[int, str]:
    """Let a listener reject; check that it is told 410; give what the sender was told."""
    async with waiting(relay, peers, target) as meeting:
        near, dismissed = await peers.visit(meeting.address + appended)
        async with near:
            assert dismissed.status == 410
            assert dismissed.all("Upgrade") == []
            assert await near.ended()
        answer = await meeting.sender.answer()
        assert answer.all("Content-Length") == ["0"]
        assert answer.all("Connection") == ["close"]
        assert await meeting.sender.ended()
        again, refused = await peers.visit(meeting.address)
        async with again:
            assert refused.status == 403
        return answer.status, answer.reason


@pytest.mark.clause(68)
@pytest.mark.parametrize("status", [300, 400, 401, 403, 404, 418, 450, 502, 504, 599, 999])
async def test_the_sender_gets_exactly_the_listeners_status_and_words(
    relay: RunningRelay, peers: RelayPeers, status: int
) -> None:
    appended = f"&sb-hc-statusCode={status}&sb-hc-statusDescription=Not-today"

    assert await _reject(relay, peers, appended) == (status, "Not-today")


@pytest.mark.clause(69)
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Not+today", "Not today"),
        ("Not%20today", "Not today"),
        ("1%2B1+is+2", "1+1 is 2"),
        ("a%3Db%26c%3f%23", "a=b&c?#"),
        ("a=b", "a=b"),
        ("100%25", "100%"),
        ("%22quoted%22", '"quoted"'),
        ("caf%C3%A9", "café"),
        ("caf%c3%a9", "café"),
        ("no+/+slash", "no / slash"),
    ],
)
async def test_a_description_is_decoded_as_a_form_is(
    relay: RunningRelay, peers: RelayPeers, written: str, read: str
) -> None:
    appended = f"&sb-hc-statusCode=450&sb-hc-statusDescription={written}"

    assert await _reject(relay, peers, appended) == (450, read)


@pytest.mark.clause(69)
async def test_what_latin_1_does_not_have_is_written_as_utf_8(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    appended = "&sb-hc-statusCode=450&sb-hc-statusDescription=%E2%82%AC+5"

    _, reason = await _reject(relay, peers, appended)

    assert reason.encode("latin-1").decode() == "€ 5"


@pytest.mark.parametrize("trick", ["%0D%0ASet-Cookie:+a", "%0a%0a", "x%00y", "x%7Fy"])
async def test_a_description_cannot_add_a_header_or_a_line(
    relay: RunningRelay, peers: RelayPeers, trick: str
) -> None:
    appended = f"&sb-hc-statusCode=450&sb-hc-statusDescription=no{trick}no"
    async with waiting(relay, peers) as meeting:
        near, _ = await peers.visit(meeting.address + appended)
        async with near:
            answer = await meeting.sender.answer()

            assert answer.status == 450
            assert {name for name, _ in answer.headers} == {"Date", "Content-Length", "Connection"}
            assert answer.reason.isprintable()
            assert await meeting.sender.ended()


async def test_the_parameters_compare_without_case(relay: RunningRelay, peers: RelayPeers) -> None:
    appended = "&SB-HC-STATUSCODE=403&Sb-Hc-StatusDescription=No"

    assert await _reject(relay, peers, appended) == (403, "No")


async def test_without_a_description_the_usual_phrase_is_given(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    assert await _reject(relay, peers, "&sb-hc-statusCode=403") == (403, "Forbidden")


async def test_a_long_description_arrives_whole(relay: RunningRelay, peers: RelayPeers) -> None:
    text = "very-" * 500 + "long"

    appended = f"&sb-hc-statusCode=403&sb-hc-statusDescription={text}"

    assert await _reject(relay, peers, appended) == (403, text)


@pytest.mark.parametrize(
    "appended",
    [
        "&statusCode=403&statusDescription=Not+today",
        "&statusDescription=Not+today&statusCode=403",
        "&statusCode=500&statusDescription=x&sb-hc-statusCode=403"
        "&sb-hc-statusDescription=Not%20today",
    ],
)
async def test_the_node_sdks_names_without_prefix_count_behind_the_id(
    relay: RunningRelay, peers: RelayPeers, appended: str
) -> None:
    assert await _reject(relay, peers, appended) == (403, "Not today")


async def test_a_senders_own_query_cannot_reject_in_the_listeners_name(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    target = "/$hc/hc1?statusCode=500&statusDescription=ha&sb-hc-action=connect"
    async with waiting(relay, peers, target) as meeting:
        near, answer = await peers.visit(meeting.address)

        async with near:
            assert answer.status == 101
            assert (await meeting.sender.answer()).status == 101


@pytest.mark.clause(70)
@pytest.mark.parametrize(
    "appended",
    [
        "&sb-hc-statusCode=abc&sb-hc-statusDescription=x",
        "&sb-hc-statusCode=&sb-hc-statusDescription=x",
        "&sb-hc-statusCode=4O3",
        "&sb-hc-statusCode=-403",
        "&sb-hc-statusCode=40",
        "&sb-hc-statusCode=1000",
        "&sb-hc-statusCode=101",
        "&sb-hc-statusCode=200",
        "&sb-hc-statusCode=4%C2%B23",
        "&sb-hc-statusDescription=only",
        "&statusCode=abc",
        "&sb-hc-statusCode=403&sb-hc-statusCode=404",
    ],
)
async def test_a_status_that_makes_no_sense_is_400_and_the_sender_waits_on(
    relay: RunningRelay, peers: RelayPeers, appended: str
) -> None:
    async with waiting(relay, peers) as meeting:
        near, answer = await peers.visit(meeting.address + appended)
        async with near:
            assert answer.status == 400
            assert await is_silent(meeting.sender, seconds=0.01)

        near, answer = await peers.visit(meeting.address)
        async with near:
            assert answer.status == 101
            assert (await meeting.sender.answer()).status == 101
