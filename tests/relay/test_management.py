"""Plain HTTP at the relay: what it says of itself, and what it does not relay yet (7.8 and 9.1)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from xml.etree import ElementTree

import pytest

from relay.settings import RelaySettings
from tests.support.raw import Answer, RelayPeers, close_frame
from tests.support.relay import (
    HOST,
    KEY,
    RunningRelay,
    hybrid_connection,
    namespace,
    running_relay,
)
from tests.support.wire import TRACKED, http_request, listener_count, quoted

ATOM = "{http://www.w3.org/2005/Atom}"
CONNECT = "{http://schemas.microsoft.com/netservices/2010/10/servicebus/connect}"
ENTRY = "/hc1?api-version=2016-07"
AT_SERVICE_BUS = ("X-PROCESS-AT", "ServiceBus")


@pytest.fixture
async def relay() -> AsyncIterator[RunningRelay]:
    served = namespace(
        hybrid_connection("hc1", target=("db1", 1433)),
        hybrid_connection("team/Plain", requires_client_authorization=False, target=None),
    )
    async with running_relay(served) as running:
        yield running


async def ask(
    peers: RelayPeers,
    target: str,
    *headers: tuple[str, str],
    method: str = "GET",
    host: str = HOST,
) -> Answer:
    """Ask over plain HTTP; the relay closes after its answer, as it is asked to."""
    headers = (*headers, ("Connection", "close"))
    peer, answer = await peers.request(http_request(target, host, *headers, method=method))
    assert await peer.ended()
    return answer


def description(answer: Answer) -> list[tuple[str, str | None]]:
    """The elements of a HybridConnectionDescription, in order."""
    entry = ElementTree.fromstring(answer.body)  # noqa: S314 - the relay's own
    found = entry.find(f"{ATOM}content/{CONNECT}HybridConnectionDescription")
    assert found is not None
    return [(each.tag, each.text) for each in found]


# --- Runtime information -------------------------------------------------------------------------


@pytest.mark.clause(124)
async def test_runtime_information_is_an_entry_with_its_elements_in_order(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    authorization = ("Authorization", relay.token())

    answer = await ask(peers, ENTRY, AT_SERVICE_BUS, authorization)

    assert answer.status == 200
    assert answer.all("Content-Type") == ["application/atom+xml;type=entry;charset=utf-8"]
    entry = ElementTree.fromstring(answer.body)  # noqa: S314 - the relay's own
    assert [each.tag for each in entry] == [
        f"{ATOM}{name}" for name in ("id", "title", "published", "updated", "author", "content")
    ]
    assert entry.findtext(f"{ATOM}id") == f"https://{HOST}/hc1?api-version=2016-07"
    assert entry.findtext(f"{ATOM}title") == "hc1"
    assert entry.findtext(f"{ATOM}author/{ATOM}name") == "ns1"
    assert description(answer) == [
        (f"{CONNECT}CreatedAt", "2026-01-01T00:00:00Z"),
        (f"{CONNECT}UpdatedAt", "2026-01-01T00:00:00Z"),
        (f"{CONNECT}RequiresClientAuthorization", "true"),
        (f"{CONNECT}UserMetadata", '[{"key":"endpoint","value":"db1:1433"}]'),
        (f"{CONNECT}ListenerCount", "0"),
    ]


async def test_runtime_information_of_a_path_in_another_case(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    token = relay.token("team/plain")
    root = relay.token("", key_name="RootManageSharedAccessKey", key=KEY[::-1])
    target = "/TEAM/plain/?a=1&API-Version=2017-04"
    for given in (token, root):
        answer = await ask(peers, target, ("x-process-at", "ServiceBus"), ("Authorization", given))

        assert answer.status == 200
        elements = dict(description(answer))
        assert elements[f"{CONNECT}RequiresClientAuthorization"] == "false"
        assert elements[f"{CONNECT}UserMetadata"] is None


@pytest.mark.parametrize(
    ("key_name", "header"),
    [
        ("listenrule", "Authorization"),
        ("sendrule", "Authorization"),
        ("RootManageSharedAccessKey", "Authorization"),
        ("listenrule", "ServiceBusAuthorization"),
    ],
)
async def test_any_rule_may_read_runtime_information(
    relay: RunningRelay, peers: RelayPeers, key_name: str, header: str
) -> None:
    key = KEY[::-1] if key_name.startswith("Root") else KEY
    token = relay.token(key_name=key_name, key=key)

    assert (await ask(peers, ENTRY, AT_SERVICE_BUS, (header, token))).status == 200


async def test_the_token_may_be_in_the_address(relay: RunningRelay, peers: RelayPeers) -> None:
    target = f"{ENTRY}&sb-hc-token={quoted(relay.token())}"

    assert (await ask(peers, target, AT_SERVICE_BUS)).status == 200


@pytest.mark.parametrize(
    ("path", "token", "status", "message"),
    [
        ("hc1", None, 401, "MissingToken: "),
        ("team/plain", None, 401, "MissingToken: "),
        ("missing", None, 401, "MissingToken: "),
        ("hc1", "nonsense", 401, "MalformedToken: "),
        ("missing", "root", 404, "Endpoint does not exist."),
    ],
)
async def test_an_error_of_management_is_told_in_xml(
    relay: RunningRelay,
    peers: RelayPeers,
    path: str,
    token: str | None,
    status: int,
    message: str,
) -> None:
    if token == "root":
        token = relay.token("", key_name="RootManageSharedAccessKey", key=KEY[::-1])
    headers = [AT_SERVICE_BUS, *([("Authorization", token)] if token else [])]

    answer = await ask(peers, f"/{path}?api-version=2016-07", *headers)

    assert answer.status == status
    assert answer.reason.startswith(message)
    told = TRACKED.fullmatch(answer.reason)
    assert told is not None
    assert told["tracker"] == f"sb://{HOST}/{path}"
    error = ElementTree.fromstring(answer.body)  # noqa: S314 - the relay's own
    assert error.tag == "Error"
    assert error.findtext("Code") == str(status)
    assert error.findtext("Detail") == answer.reason


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_management_by_this_way_only_reads(
    relay: RunningRelay, peers: RelayPeers, method: str
) -> None:
    headers = [AT_SERVICE_BUS, ("Authorization", relay.token())]

    assert (await ask(peers, ENTRY, *headers, method=method)).status == 400


@pytest.mark.clause(126)
async def test_the_listener_count_follows_connects_and_disconnects(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    token = relay.token(key_name="listenrule")
    counts = [await listener_count(peers, token)]
    async with await peers.listener("hc1", token) as first:
        counts.append(await listener_count(peers, token))
        async with await peers.listener("HC1", token) as second:
            counts.append(await listener_count(peers, token))
            await second.send(close_frame())
            await second.close()
            counts.append(await listener_count(peers, token))
        await first.send(close_frame())
        await first.close()
        counts.append(await listener_count(peers, token))

    assert counts == [0, 1, 2, 1, 0]


# --- The namespace itself ------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/?x=1", "//"])
@pytest.mark.parametrize("host", [HOST, f"{HOST}:8443", "localhost"])
async def test_the_namespace_answers_at_its_root(peers: RelayPeers, target: str, host: str) -> None:
    answer = await ask(peers, target, host=host)

    assert (answer.status, answer.reason) == (200, "OK")
    feed = ElementTree.fromstring(answer.body)  # noqa: S314 - the relay's own
    assert feed.tag == f"{ATOM}feed"
    assert feed.findtext(f"{ATOM}title") == "ns1"
    assert feed.find(f"{ATOM}entry") is None, "names are told to nobody without a token"


async def test_head_at_the_root_has_no_body(peers: RelayPeers) -> None:
    async with await peers.dial() as peer:
        await peer.send(http_request("/", HOST, ("Connection", "close"), method="HEAD"))
        head = await peer.reader.readuntil(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert await peer.reader.read() == b""


# --- Errors of relayed HTTP ----------------------------------------------------------------------


def error_of(answer: Answer) -> dict[str, object]:
    """Check the shape of section 7.8; give the error."""
    assert answer.all("Content-Type") == ["application/json"]
    assert answer.all("Via") == []
    document = json.loads(answer.body)
    assert set(document) == {"error"}
    error = document["error"]
    assert set(error) == {"code", "message"}
    assert error["message"] == answer.reason
    told = TRACKED.fullmatch(answer.reason)
    assert told is not None
    assert told["tracker"].startswith(f"{HOST}:")
    assert isinstance(error, dict)
    return error


@pytest.mark.clause(115)
@pytest.mark.parametrize("token", [None, "nonsense", "listenrule"])
async def test_a_bad_token_over_http_is_answered_401_in_json(
    relay: RunningRelay, peers: RelayPeers, token: str | None
) -> None:
    if token == "listenrule":
        token = relay.token(key_name=token)
    headers = [("Authorization", token)] if token else []

    answer = await ask(peers, "/hc1/x", *headers)

    assert answer.status == 401
    assert error_of(answer)["code"] == "TokenMissingOrInvalid"
    assert f"SystemTracker:{HOST}:hc1/x," in answer.reason


@pytest.mark.clause(114)
async def test_without_a_listener_http_is_answered_404_in_json(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    answer = await ask(peers, "/hc1", ("ServiceBusAuthorization", relay.token()))

    assert answer.status == 404
    assert answer.reason.startswith("There are no listeners connected for the endpoint.")
    assert error_of(answer)["code"] == "EndpointNotFound"


@pytest.mark.clause(114)
async def test_the_status_of_http_without_a_listener_can_be_set() -> None:
    settings = RelaySettings(no_listener_http_status=502, drain_seconds=0)
    async with running_relay(settings=settings) as relay:
        peers = RelayPeers(relay.port, ca=relay.ca, host=relay.host)
        answer = await ask(peers, "/hc1", ("ServiceBusAuthorization", relay.token()))

    assert answer.status == 502
    assert error_of(answer)["code"] == "BadGateway"


async def test_an_unknown_path_over_http_is_answered_404_in_json(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    token = relay.token("", key_name="RootManageSharedAccessKey", key=KEY[::-1])

    answer = await ask(peers, "/missing", ("Authorization", token))

    assert answer.status == 404
    assert answer.reason.startswith("Endpoint does not exist.")
    assert error_of(answer)["code"] == "EndpointNotFound"


async def test_http_to_an_open_hybrid_connection_needs_no_token(peers: RelayPeers) -> None:
    answer = await ask(peers, "/team/plain", ("Authorization", "Bearer of-the-application"))

    assert answer.status == 404
    assert answer.reason.startswith("There are no listeners connected for the endpoint.")


async def test_an_upgrade_outside_hc_is_not_a_websocket(
    relay: RunningRelay, peers: RelayPeers
) -> None:
    peer, answer = await peers.upgrade("/hc1", ("ServiceBusAuthorization", relay.token()))

    async with peer:
        assert answer.status == 400
        assert error_of(answer)["code"] == "BadRequest"


@pytest.mark.parametrize("size", [0, 300, 800_000])
async def test_a_request_with_a_body_gets_its_whole_answer(
    relay: RunningRelay, peers: RelayPeers, size: int
) -> None:
    token, close = ("Authorization", relay.token()), ("Connection", "close")
    headers = [token, close, ("Content-Length", str(size))]
    async with await peers.dial() as peer:
        await peer.send(http_request("/hc1", HOST, *headers, method="POST") + b"x" * size)
        answer = await peer.answer()

        assert answer.status == 404
        assert error_of(answer)["code"] == "EndpointNotFound"
        assert await peer.ended(), "the body does not turn the end into a reset"
