"""A relay is asked about tokens over the wire, and nothing is opened there by it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hybridge.protocol import sas
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import MalformedToken, Unreachable
from hybridge.protocol.token_faults import Refusal
from hybridge.protocol.token_questions import Answer, Question, RelayVerdict, read_answers
from hybridge.token_check import ask_relay
from hybridge.transport.timing import Timing
from tests.support.relay import (
    HOST,
    KEY,
    RunningRelay,
    hybrid_connection,
    namespace,
    rule,
    running_relay,
)

FAR = 4_000_000_000


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    rules = [rule(name.lower(), Claim.parse([name])) for name in ("Listen", "Send", "Manage")]
    served = namespace(
        hybrid_connection("hc1", rules=rules),
        hybrid_connection("open", rules=rules, requires_client_authorization=False),
    )
    async with running_relay(served) as running:
        yield running


async def ask(relay: RunningRelay, token: str, path: str = "hc1") -> RelayVerdict:
    return await ask_relay(
        token, host=HOST, port=relay.port, path=path, ca=relay.ca,
        connect_to=("127.0.0.1", relay.port),
    )  # fmt: skip


def token(
    key_name: str, *, path: str = "hc1", key: str = KEY, expires_at: int = FAR, host: str = HOST
) -> str:
    return sas.sign(sas.resource_of(host, path), key_name=key_name, key=key, expires_at=expires_at)


@pytest.mark.parametrize(
    ("key_name", "may_listen", "may_send"),
    [("listen", True, False), ("send", False, True), ("manage", True, True)],
)
async def test_the_relay_tells_which_rights_a_token_has(
    relay: RunningRelay,
    caplog: pytest.LogCaptureFixture,
    key_name: str,
    may_listen: bool,
    may_send: bool,
) -> None:
    caplog.set_level("INFO")

    verdict = await ask(relay, token(key_name))

    assert (verdict.opens, verdict.exists, verdict.fault) == (True, True, None)
    assert (verdict.may_listen, verdict.may_send) == (may_listen, may_send)
    assert verdict.says == "200 OK"
    assert not verdict.is_anonymous
    # Nobody was registered, and no sender waited.
    events = {vars(record).get("event") for record in caplog.records}
    assert not events & {"NewListenerRegistered", "NewSenderRegistering"}


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (token("send", key="wrong"), Refusal.SIGNATURE),
        (token("nobody"), Refusal.SIGNATURE),
        (token("send", path="hc10"), Refusal.AUDIENCE),
        (token("send", host="elsewhere.test"), Refusal.AUDIENCE),
        (token("send", expires_at=1), Refusal.EXPIRED),
        (token("send") + "&sr=x", Refusal.MALFORMED),
        ("eyJhbGciOiJub25lIn0.e30.c2ln", Refusal.MALFORMED),
    ],
)
async def test_the_relays_own_refusal_is_reported(
    relay: RunningRelay, text: str, refusal: Refusal
) -> None:
    verdict = await ask(relay, text)

    assert (verdict.opens, verdict.may_listen, verdict.may_send) == (False, False, False)
    assert verdict.fault is not None
    assert verdict.fault.refusal is refusal
    assert verdict.says.startswith(f"401 {refusal.value}: ")


async def test_a_token_may_be_good_where_there_is_no_hybrid_connection(relay: RunningRelay) -> None:
    root = token("RootManageSharedAccessKey", path="", key=KEY[::-1])

    verdict = await ask(relay, root, path="nowhere")

    assert (verdict.opens, verdict.exists, verdict.may_listen) == (True, False, True)


async def test_where_senders_need_no_token_theirs_is_said_not_to_count(relay: RunningRelay) -> None:
    verdict = await ask(relay, token("listen", path="open"), path="open")

    assert verdict.is_anonymous
    assert (verdict.opens, verdict.may_listen, verdict.may_send) == (True, True, None)


@pytest.mark.parametrize("text", ["a\nb", "caf\u00e9"])
async def test_what_cannot_stand_in_a_header_is_not_sent(tmp_path: Path, text: str) -> None:
    with pytest.raises(MalformedToken):
        await ask_relay(text, host="localhost", port=1, path="hc1")


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()


async def test_a_relay_that_says_nothing_is_not_waited_for(relay: RunningRelay) -> None:
    async with await asyncio.start_server(_silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="did not answer in time"):
            await ask_relay(
                "x", host=HOST, port=port, path="hc1", ca=relay.ca,
                connect_to=("127.0.0.1", port), timing=Timing(open_timeout_seconds=0.05),
            )  # fmt: skip


async def test_no_relay_is_an_error(relay: RunningRelay) -> None:
    async with await asyncio.start_server(_silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

    with pytest.raises(Unreachable):
        await ask_relay(
            "x", host=HOST, port=port, path="hc1", ca=relay.ca, connect_to=("127.0.0.1", port)
        )


# --- Other relays' answers ------------------------------------------------------------------------


def answers(**told: Answer) -> dict[Question, Answer]:
    """What a relay says that checks the token first, but for what is given."""
    usual = {
        Question.INFORMATION: Answer(status=200, reason="OK"),
        Question.LISTEN: Answer(status=400, reason="Bad", names_websocket_version=True),
        Question.SEND: Answer(status=400, reason="Bad", names_websocket_version=True),
        Question.LISTEN_ANONYMOUSLY: Answer(status=401, reason="MissingToken: x"),
        Question.SEND_ANONYMOUSLY: Answer(status=401, reason="MissingToken: x"),
    }
    return usual | {Question[name.upper()]: answer for name, answer in told.items()}


NO_MANAGE = Answer(
    status=401, reason="Authorization failed for specified action: Manage. TrackingId:x"
)
BAD = Answer(status=400, reason="Bad Request", names_websocket_version=True)
BUSY = Answer(status=503, reason="busy")


def test_a_relay_that_asks_for_manage_took_the_token_all_the_same() -> None:
    verdict = read_answers(answers(information=NO_MANAGE))

    assert (verdict.opens, verdict.exists, verdict.may_listen, verdict.may_send) == (
        True, None, True, True,
    )  # fmt: skip


def test_of_a_relay_that_looks_at_the_version_first_the_rights_are_not_known() -> None:
    verdict = read_answers(answers(listen_anonymously=BAD, send_anonymously=BAD))

    assert (verdict.opens, verdict.may_listen, verdict.may_send) == (True, None, None)
    assert not verdict.is_anonymous


def test_a_relay_that_is_busy_said_nothing() -> None:
    verdict = read_answers(dict.fromkeys(Question, BUSY))

    assert (verdict.opens, verdict.exists, verdict.may_listen, verdict.fault) == (
        None, None, None, None,
    )  # fmt: skip
    assert verdict.says == "503 busy"


def test_a_relay_that_has_no_information_is_believed_by_its_handshakes() -> None:
    assert read_answers(answers(information=BUSY)).opens is True


def test_a_relay_that_upgrades_whatever_the_version_is_understood() -> None:
    upgraded = Answer(status=101, reason="Switching Protocols")

    assert read_answers(answers(listen=upgraded)).may_listen is True


def test_a_refusal_in_words_of_its_own_is_a_refusal_too() -> None:
    odd = Answer(status=401, reason="Unauthorized; sig=c2VjcmV0 was bad TrackingId:x, more")

    verdict = read_answers(answers(information=odd, listen=odd, send=odd))

    assert verdict.opens is False
    assert verdict.fault is not None
    assert "c2VjcmV0" not in verdict.fault.problem + verdict.says
