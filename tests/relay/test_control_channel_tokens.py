"""A listener's token over time: expiry, grace and renewal (sections 3.5 and 4.4)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from relay.settings import RelaySettings
from tests.support.raw import (
    RawPeer,
    RelayPeers,
)
from tests.support.relay import (
    HOST,
    RunningRelay,
    running_relay,
)
from tests.support.wire import (
    Clock,
    command,
    is_alive,
    listener_count,
    quoted,
    sas_token,
)

HC1 = quoted(f"http://{HOST}/hc1/")


# --- Tokens, as time goes by ---------------------------------------------------------------------

EXPIRY = 1_900_000_000
GRACE_SECONDS = 0.2


class Session:
    """Listeners whose first token is about to expire, by a clock that the test holds."""

    def __init__(self, relay: RunningRelay, clock: Clock) -> None:
        self._relay = relay
        self._peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        self.clock = clock

    async def listener(self) -> RawPeer:
        return await self._peers.listener("hc1", self._token(EXPIRY))

    async def renew(self, listener: RawPeer, *, expires_at: int = EXPIRY + 3_600) -> None:
        """Renew a token; the next frame is an answered ping, so the relay has said nothing."""
        await listener.send(command("renewToken", token=self._token(expires_at)))
        assert await is_alive(listener)

    def _token(self, expires_at: int) -> str:
        return self._relay.token(key_name="listenrule", expires_at=expires_at)


@pytest.fixture
async def session(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Session]:
    clock = Clock(monkeypatch, "relay.gateway", "relay.control_channel")
    clock.now = EXPIRY - 0.1
    settings = RelaySettings(token_grace_seconds=GRACE_SECONDS, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        yield Session(relay, clock)


@pytest.mark.clause(48)
async def test_without_a_renewal_the_channel_closes_after_expiry_and_within_the_grace(
    session: Session,
) -> None:
    assert RelaySettings().token_grace_seconds == 300

    async with await session.listener() as listener:
        session.clock.now = EXPIRY + GRACE_SECONDS / 2
        assert await is_alive(listener)
        session.clock.now = EXPIRY + GRACE_SECONDS
        code, reason = await listener.close()

    assert code == 1008
    assert reason.startswith("ExpiredToken: The token is expired. TrackingId:")


@pytest.mark.clause(46)
async def test_a_renewal_extends_the_session_and_has_no_reply(session: Session) -> None:
    async with await session.listener() as renewed, await session.listener() as other:
        await session.renew(renewed)
        session.clock.now = EXPIRY + GRACE_SECONDS

        assert (await other.close())[0] == 1008
        assert await is_alive(renewed)


@pytest.mark.clause(49)
async def test_a_renewal_a_little_after_expiry_is_accepted(session: Session) -> None:
    async with await session.listener() as late, await session.listener() as other:
        session.clock.now = EXPIRY + GRACE_SECONDS / 2
        await session.renew(late)
        session.clock.now = EXPIRY + GRACE_SECONDS

        assert (await other.close())[0] == 1008
        assert await is_alive(late)


async def test_a_renewal_may_shorten_the_session_too(session: Session) -> None:
    session.clock.now = EXPIRY - 1_000.1
    async with await session.listener() as listener:
        await session.renew(listener, expires_at=EXPIRY - 1_000)
        session.clock.now = EXPIRY - 999

        assert (await listener.close())[0] == 1008


@pytest.mark.clause(47)
@pytest.mark.parametrize(
    "fields",
    [
        {"token": sas_token(HC1, key_name="listenrule", key="wrong")},
        {"token": sas_token(HC1, key_name="sendrule")},
        {"token": sas_token(HC1, key_name="listenrule", expires_at=int(time.time()) - 60)},
        {"token": sas_token(quoted(f"http://{HOST}/hc2"), key_name="listenrule")},
        {"token": "com.microsoft.azure.relay.SharedAccessSignatureToken@1a2b3c"},
        {"token": ""},
        {"token": 1},
        {},
    ],
    ids=[
        "wrong key",
        "wrong claim",
        "expired",
        "another path",
        "Java's object dump",
        "empty",
        "no text",
        "missing",
    ],
)
async def test_a_bad_renewal_closes_with_1008(
    relay: RunningRelay,
    peers: RelayPeers,
    listener: RawPeer,
    listen_token: str,
    fields: dict[str, object],
) -> None:
    await listener.send(command("renewToken", **fields))

    code, reason = await listener.close()
    assert code == 1008
    assert "TrackingId:" in reason
    assert "SharedAccessSignature s" not in reason
    assert await listener_count(peers, listen_token) == 0
