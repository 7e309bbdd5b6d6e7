"""What a token opens, as a peer sees it: statuses and reasons (sections 3, 4.2, 8 and 12.2)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

import pytest

from hybridge.protocol.claims import Claim
from tests.support.raw import TEXT, Answer, RelayPeers, frame
from tests.support.relay import (
    HOST,
    KEY,
    SECOND_KEY,
    RunningRelay,
    hybrid_connection,
    namespace,
    rule,
    running_relay,
)
from tests.support.wire import TRACKED, accept_of, address_for, http_request, quoted, sas_token

CONNECT = "/$hc/hc1?sb-hc-action=connect"
LISTEN = "/$hc/hc1?sb-hc-action=listen"
HC1 = quoted(f"http://{HOST}/hc1/")
ROOT_KEY = KEY[::-1]
ENTITY_KEY = "RW50aXR5RW50aXR5RW50aXR5RW50aXR5RW50aXR5RW4="
WRONG_KEY = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I="


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    """A relay with a protected, an open and a similarly named hybrid connection."""
    both = [
        rule("listenrule", Claim.LISTEN),
        rule("sendrule", Claim.SEND),
        rule("managerule", Claim.LISTEN | Claim.SEND | Claim.MANAGE),
        # The namespace has a rule of this name too, with other keys and all claims.
        rule("RootManageSharedAccessKey", Claim.LISTEN, key=ENTITY_KEY, second=ENTITY_KEY),
    ]
    served = namespace(
        hybrid_connection("hc1", rules=both),
        hybrid_connection("hc10", rules=both),
        hybrid_connection("open", requires_client_authorization=False),
    )
    async with running_relay(served) as running:
        yield running


class Asks:
    """Asks the relay for something with a token, and gives the status of the answer."""

    def __init__(self, peers: RelayPeers) -> None:
        self._peers = peers

    async def to_connect(self, token: str | None, *, target: str = CONNECT) -> Answer:
        """Without a listener, 404 says that the token was good."""
        headers = [] if token is None else [("ServiceBusAuthorization", token)]
        peer, answer = await self._peers.upgrade(target, *headers)
        assert await peer.ended()
        return answer

    async def to_listen(self, token: str | None, *, target: str = LISTEN) -> Answer:
        headers = [] if token is None else [("ServiceBusAuthorization", token)]
        peer, answer = await self._peers.upgrade(target, *headers)
        peer.reset()
        return answer

    async def over_http(self, target: str, *headers: tuple[str, str]) -> Answer:
        headers = (*headers, ("Connection", "close"))
        peer, answer = await self._peers.request(http_request(target, HOST, *headers))
        assert await peer.ended()
        return answer


@pytest.fixture
def asks(peers: RelayPeers) -> Asks:
    return Asks(peers)


def is_welcome(answer: Answer) -> bool:
    """Whether a sender's token was good, on a hybrid connection where nobody listens."""
    return answer.reason.startswith("There are no listeners connected for the endpoint.")


# --- What opens ----------------------------------------------------------------------------------


@pytest.mark.clause(20, 22, 23, 24, 25)
@pytest.mark.parametrize("scheme", ["http", "https", "sb"])
@pytest.mark.parametrize("port", ["", ":443", ":8443"])
@pytest.mark.parametrize("path", ["", "/", "/hc1", "/hc1/"])
async def test_a_token_opens_whatever_its_scheme_port_and_last_slash(
    asks: Asks, scheme: str, port: str, path: str
) -> None:
    sr = quoted(f"{scheme}://{HOST}{port}{path}")

    assert is_welcome(await asks.to_connect(sas_token(sr)))
    assert (await asks.to_listen(sas_token(sr, key_name="listenrule"))).status == 101


@pytest.mark.clause(21)
@pytest.mark.parametrize("sr", [HC1.lower(), f"http://{HOST}/hc1", f"http%3A//{HOST}%2fhc1"])
async def test_the_signature_is_over_the_resource_as_it_came(asks: Asks, sr: str) -> None:
    assert is_welcome(await asks.to_connect(sas_token(sr)))


@pytest.mark.clause(25)
async def test_a_token_for_the_namespace_opens_every_hybrid_connection(asks: Asks) -> None:
    token = sas_token(quoted(f"sb://{HOST}"), key_name="RootManageSharedAccessKey", key=ROOT_KEY)

    for path in ("hc1", "hc10", "open"):
        target = f"/$hc/{path}?sb-hc-action=listen"
        assert (await asks.to_listen(token, target=target)).status == 101


@pytest.mark.clause(26)
async def test_a_token_for_the_full_request_opens_that_request(asks: Asks) -> None:
    token = sas_token(quoted(f"https://{HOST}:8443/hc1/extra%20Path?key=value;"))
    good, other = "/hc1/extra%20Path?key=value;", "/hc1/extra"

    assert is_welcome(await asks.to_connect(token, target=f"/$hc{good}"))
    refused = await asks.to_connect(token, target=f"/$hc{other}")
    assert refused.reason.startswith("InvalidAudience: ")

    assert is_welcome(await asks.over_http(good, ("Authorization", token)))
    assert (await asks.over_http(other, ("Authorization", token))).status == 401


@pytest.mark.clause(32)
@pytest.mark.parametrize("key", [KEY, SECOND_KEY])
async def test_both_keys_of_a_rule_open(asks: Asks, key: str) -> None:
    assert is_welcome(await asks.to_connect(sas_token(HC1, key=key)))
    listen = sas_token(HC1, key_name="LISTENrule", key=key)
    assert (await asks.to_listen(listen)).status == 101


@pytest.mark.clause(33)
async def test_a_rule_of_the_namespace_helps_where_the_entitys_own_did_not_sign(
    asks: Asks,
) -> None:
    name = "RootManageSharedAccessKey"
    own, inherited = (sas_token(HC1, key_name=name, key=key) for key in (ENTITY_KEY, ROOT_KEY))

    # The entity's rule may listen only: so this tells which of the two was used.
    assert (await asks.to_listen(own)).status == 101
    refused = await asks.to_connect(own)
    assert refused.reason.startswith("Authorization failed for specified action: Send.")
    assert (await asks.to_listen(inherited)).status == 101
    assert is_welcome(await asks.to_connect(inherited))


@pytest.mark.clause(35)
async def test_a_manage_rule_may_listen_and_send(asks: Asks) -> None:
    token = sas_token(HC1, key_name="managerule")

    assert is_welcome(await asks.to_connect(token))
    assert (await asks.to_listen(token)).status == 101


@pytest.mark.clause(36)
async def test_the_token_comes_in_a_header_or_a_parameter(asks: Asks) -> None:
    token = sas_token(HC1)
    with_parameter = f"{CONNECT}&sb-hc-token={quoted(token)}"

    assert is_welcome(await asks.to_connect(token))
    assert is_welcome(await asks.to_connect(None, target=with_parameter))
    # The header wins: with a bad one, a good parameter does not help.
    bad = sas_token(HC1, key=WRONG_KEY)
    assert (await asks.to_connect(bad, target=with_parameter)).status == 401
    listen = quoted(sas_token(HC1, key_name="listenrule"))
    answer = await asks.to_listen(None, target=f"{LISTEN}&sb-hc-token={listen}")
    assert answer.status == 101


async def test_authorization_is_no_token_of_a_websocket(peers: RelayPeers) -> None:
    _, answer = await peers.upgrade(CONNECT, ("Authorization", sas_token(HC1)))

    assert answer.status == 401
    assert answer.reason.startswith("MissingToken: ")


# --- What does not -------------------------------------------------------------------------------


@pytest.mark.clause(27, 28, 29)
@pytest.mark.parametrize(
    "resource",
    [
        f"http://{HOST}/hc10",
        f"http://{HOST}/hc",
        f"http://{HOST}/open",
        f"http://{HOST}/hc1/suffix",
        f"http://{HOST}/$hc/hc1",
        f"http://{HOST}/hc1/../hc1",
        "http://ns2.servicebus.windows.net/hc1",
        "http://ns2.servicebus.windows.net",
        f"http://{HOST}.example.test/hc1",
        f"http://user@{HOST}/hc1",
        f"ftp://{HOST}/hc1",
        f"{HOST}/hc1",
    ],
)
async def test_a_token_for_something_else_is_refused_with_401(asks: Asks, resource: str) -> None:
    answer = await asks.to_connect(sas_token(quoted(resource)))

    assert answer.status == 401
    assert answer.reason.startswith("InvalidAudience: ")


@pytest.mark.clause(26, 27)
async def test_a_token_for_one_request_does_not_open_the_hybrid_connection_to_a_listener(
    asks: Asks,
) -> None:
    # Whoever listens at this address gets every sender of hc1.
    target = "/$hc/hc1/sub?sb-hc-action=listen"
    below, whole = (
        sas_token(quoted(f"http://{HOST}/hc1{end}"), key_name="listenrule") for end in ("/sub", "")
    )

    answer = await asks.to_listen(below, target=target)

    assert answer.status == 401
    assert answer.reason.startswith("InvalidAudience: ")
    assert (await asks.to_listen(whole, target=target)).status == 101


@pytest.mark.clause(28)
async def test_a_token_of_one_name_does_not_cover_a_longer_name(asks: Asks) -> None:
    answer = await asks.to_connect(sas_token(HC1), target="/$hc/hc10?sb-hc-action=connect")

    assert answer.status == 401
    assert answer.reason.startswith("InvalidAudience: ")


@pytest.mark.clause(30, 45)
@pytest.mark.parametrize("key_name", ["sendrule", "no-such-rule"])
async def test_a_wrong_signature_is_named_with_the_path(asks: Asks, key_name: str) -> None:
    answer = await asks.to_connect(sas_token(HC1, key_name=key_name, key=WRONG_KEY))

    assert answer.status == 401
    assert "token has an invalid signature" in answer.reason
    told = TRACKED.fullmatch(answer.reason)
    assert told is not None
    assert told["tracker"] == f"sb://{HOST}/hc1"


@pytest.mark.clause(31)
async def test_an_expired_token_is_refused_at_the_handshake(asks: Asks) -> None:
    # Also the answer to a clock that is off by an hour: it says which time was meant.
    for seconds_ago in (1, 3_600):
        expires_at = int(time.time()) - seconds_ago
        for answer in (
            await asks.to_connect(sas_token(HC1, expires_at=expires_at)),
            await asks.to_listen(sas_token(HC1, key_name="listenrule", expires_at=expires_at)),
        ):
            assert answer.status == 401
            written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(expires_at))
            assert answer.reason.startswith(
                f"ExpiredToken: The token is expired. Expiration time: '{written}'"
            )


@pytest.mark.clause(34)
async def test_a_rule_is_good_for_its_own_claim_only(asks: Asks) -> None:
    listen = await asks.to_listen(sas_token(HC1, key_name="sendrule"))
    send = await asks.to_connect(sas_token(HC1, key_name="listenrule"))

    assert (listen.status, send.status) == (401, 401)
    assert listen.reason.startswith("Authorization failed for specified action: Listen. Tracking")
    assert send.reason.startswith("Authorization failed for specified action: Send. TrackingId:")


@pytest.mark.parametrize(
    "token",
    [
        "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL3JlbGF5LmF6dXJlLm5ldC8ifQ.c2ln",
        "SharedAccessSignature",
        "SharedAccessSignature sr=x",
        f"{sas_token(HC1)}&se=4000000001",
        sas_token(HC1).replace("se=4000000000", "se=-1"),
        sas_token(HC1).replace("se=4000000000", "se=+4000000000"),
        f"SharedAccessSignature {'x' * 4_096}",
    ],
    ids=["a JWT", "no fields", "one field", "two expiries", "negative", "signed", "long"],
)
async def test_a_token_that_cannot_be_read_is_refused_with_401(asks: Asks, token: str) -> None:
    answer = await asks.to_connect(token)

    assert answer.status == 401
    assert answer.reason.startswith("MalformedToken: ")


async def test_two_different_tokens_are_no_token(peers: RelayPeers) -> None:
    _, answer = await peers.upgrade(
        CONNECT,
        ("ServiceBusAuthorization", sas_token(HC1)),
        ("ServiceBusAuthorization", sas_token(HC1, key=WRONG_KEY)),
    )

    assert answer.status == 401


# --- Before existence ----------------------------------------------------------------------------


@pytest.mark.clause(40)
@pytest.mark.parametrize("path", ["hc1", "missing", "missing/deep/er"])
async def test_without_a_token_nothing_is_said_about_what_exists(asks: Asks, path: str) -> None:
    for answer in (
        await asks.to_connect(None, target=f"/$hc/{path}"),
        await asks.to_listen(None, target=f"/$hc/{path}?sb-hc-action=listen"),
        await asks.over_http(f"/{path}"),
    ):
        assert answer.status == 401
        assert answer.reason.startswith(
            "MissingToken: The request contains no authorization header. TrackingId:"
        )


@pytest.mark.clause(41)
async def test_a_valid_token_on_a_missing_entity_is_answered_404(asks: Asks) -> None:
    root = quoted(f"http://{HOST}/")
    token = sas_token(root, key_name="RootManageSharedAccessKey", key=ROOT_KEY)

    for answer in (
        await asks.to_connect(token, target="/$hc/missing/deeper"),
        await asks.to_listen(token, target="/$hc/missing/deeper?sb-hc-action=listen"),
    ):
        assert answer.status == 404
        assert answer.reason.startswith("Endpoint does not exist. TrackingId:")
        assert f"SystemTracker:sb://{HOST}/missing/deeper," in answer.reason


# --- Anonymous senders (section 8) ---------------------------------------------------------------


async def test_where_senders_need_no_token_one_that_is_there_is_not_looked_at(asks: Asks) -> None:
    for token in (None, "nonsense", sas_token(HC1, key=WRONG_KEY)):
        assert is_welcome(await asks.to_connect(token, target="/$hc/open"))


async def test_where_senders_need_no_token_listeners_still_do(asks: Asks) -> None:
    target = "/$hc/open?sb-hc-action=listen"

    assert (await asks.to_listen(None, target=target)).status == 401
    sender = sas_token(quoted(f"http://{HOST}/open"))
    assert (await asks.to_listen(sender, target=target)).status == 401


@pytest.mark.clause(39)
@pytest.mark.parametrize("path", ["hc1", "open"])
async def test_a_listener_never_sees_a_token_of_the_relay(
    relay: RunningRelay, peers: RelayPeers, path: str
) -> None:
    token = sas_token(quoted(f"http://{HOST}/{path}/"))
    async with (
        await peers.listener(path, relay.token(path, key_name="listenrule")) as listener,
        await peers.start_sender(
            f"/$hc/{path}?a=1&SB-HC-Token={quoted(token)}",
            ("SERVICEBUSAuthorization", token),
            ("Authorization", "Bearer the-applications-own"),
        ),
    ):
        accept = await accept_of(listener)

    told = str(accept)
    assert "SharedAccessSignature" not in told
    assert "servicebusauthorization" not in told.lower()
    assert "sb-hc-token" not in told.lower()
    headers = accept["connectHeaders"]
    assert isinstance(headers, dict)
    assert headers["Authorization"] == "Bearer the-applications-own"


# --- Secrets stay out of the log -----------------------------------------------------------------


async def test_no_key_token_or_signature_is_ever_logged(
    relay: RunningRelay, peers: RelayPeers, asks: Asks, caplog: pytest.LogCaptureFixture
) -> None:
    # As the programs have it: below WARNING, websockets prints tokens.
    caplog.set_level("WARNING", "websockets")
    caplog.set_level("DEBUG")
    good, bad = sas_token(HC1), sas_token(HC1, key=WRONG_KEY)
    listen = relay.token(key_name="listenrule")
    renewed = sas_token(HC1, key_name="listenrule", key=SECOND_KEY)

    async with await peers.listener("hc1", listen) as listener:
        target = f"{CONNECT}&sb-hc-token={quoted(good)}"
        sender, near = await peers.pair(listener, target, ("ServiceBusAuthorization", good))
        sender.reset()
        near.reset()
        token = ("ServiceBusAuthorization", good)
        address = await address_for(peers, listener, CONNECT, token)
        await peers.visit(address)
        await asks.to_connect(bad)
        await asks.to_connect(None, target=f"{CONNECT}&sb-hc-token={quoted(bad)}")
        await asks.to_connect(f"{good}&se=1")
        await asks.to_connect(good, target="/$hc/hc10")
        await asks.over_http("/hc1", ("Authorization", bad))
        await asks.over_http(f"/hc1?sb-hc-token={quoted(bad)}&sb-hc-sas-key={KEY}")
        await asks.over_http("/hc1", ("Authorization", bad), ("Bad Name", "x"))
        for each in (renewed, bad):
            await listener.send(frame(TEXT, json.dumps({"renewToken": {"token": each}}).encode()))
        assert (await listener.close())[0] == 1008

    secret = address.rpartition("sb-hc-rendezvous=")[2]
    assert len(secret) == 32
    tokens = (good, bad, listen, renewed)
    signatures = [each.partition("sig=")[2].partition("&")[0] for each in tokens]
    assert len(caplog.records) > 10
    for record in caplog.records:
        told = f"{record.getMessage()} {vars(record)}"
        for canary in (KEY, SECOND_KEY, ROOT_KEY, WRONG_KEY, secret, *signatures):
            assert canary not in told
        assert "SharedAccessSignature" not in told
