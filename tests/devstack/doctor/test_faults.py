"""Each prepared fault is found by its right name, and nothing is found in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from devstack.doctor import conversation, entity
from devstack.doctor.case import Role
from devstack.doctor.examination import Examination
from devstack.doctor.faults import Fault
from devstack.doctor.finding import Check, Finding, Verdict
from hybridge.incoming_connection import IncomingConnection
from hybridge.listener import Listener
from hybridge.protocol.connection_string import ConnectionString, parse, serialize
from hybridge.protocol.errors import RelayError, Unreachable
from hybridge.protocol.proxies import parse_proxy
from hybridge.protocol.secret import Secret
from relay.settings import RelaySettings
from tests.support.agent_ends import free_port
from tests.support.authority import Authority
from tests.support.examined import case_of, examine, find, verdicts
from tests.support.in_between import in_between, serving
from tests.support.proxies import ConnectProxy, Handle, answering, silent
from tests.support.relay import HOST, KEY, RunningRelay, certificate, running_relay


def listen_string(relay: RunningRelay, path: str = "hc1") -> str:
    return relay.connection_string(path, key_name="listenrule")


def with_token(token: str, path: str = "hc1") -> str:
    return serialize(ConnectionString(host=HOST, path=path, token=Secret(token)))


# --- connection string: test_shape.py has the others ----------------------------------------------


async def test_a_biztalk_string(relay: RunningRelay) -> None:
    await find(case_of(relay, f"hc://{HOST}/hc1"), Fault.BIZTALK_STRING)


async def test_nothing_is_dialled_with_a_string_that_cannot_be_read(relay: RunningRelay) -> None:
    examination = await examine(case_of(relay, "hello", connect_to=None))

    assert set(verdicts(examination).values()) == {Verdict.FAIL, Verdict.SKIPPED}
    assert len(verdicts(examination)) == len(examination.findings)


# --- the way there --------------------------------------------------------------------------------


async def test_a_name_that_is_unknown(relay: RunningRelay) -> None:
    # A label that is too long is unknown without a name server.
    host = "x" * 64 + ".servicebus.windows.com"
    found = await find(case_of(relay, connect_to=(host, 443)), Fault.NAME_UNKNOWN)

    assert "NAME.servicebus.windows.net" in found.next_step


async def test_a_name_server_that_is_silent(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", silent)
    case = case_of(relay, connect_to=("relay.example.test", 443), timeout_seconds=0.05)
    await find(case, Fault.DNS_TIMEOUT)


async def test_a_closed_port(relay: RunningRelay) -> None:
    await find(case_of(relay, connect_to=("127.0.0.1", free_port())), Fault.PORT_CLOSED)


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that answers no SYN: the queue of what listens there is full."""
    with ExitStack() as opened:
        listening = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        while True:
            waiting = opened.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(listening.getsockname())
            except TimeoutError:
                break
        yield listening.getsockname()


async def test_a_tcp_black_hole(relay: RunningRelay, black_hole: tuple[str, int]) -> None:
    case = case_of(relay, connect_to=black_hole, timeout_seconds=0.2)
    await find(case, Fault.TCP_TIMEOUT)


async def test_a_network_without_a_way_there(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_route(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("aiohappyeyeballs.start_connection", no_route)
    await find(case_of(relay), Fault.NO_ROUTE)


def greeting(
    text: bytes,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """What is no relay: it says its greeting, and then waits for the end."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await reader.read()

    return greet


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate()[:2])
    return context


@pytest.mark.parametrize("text", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad\r\n\r\n"])
async def test_a_port_that_speaks_no_tls(relay: RunningRelay, text: bytes) -> None:
    async with serving(greeting(text)) as address:
        await find(case_of(relay, connect_to=address), Fault.NOT_TLS)


async def test_a_port_that_says_nothing(relay: RunningRelay) -> None:
    async with serving(greeting(b"")) as address:
        case = case_of(relay, connect_to=address, timeout_seconds=0.1)
        await find(case, Fault.TLS_TIMEOUT)


async def test_tls_of_a_version_that_is_too_old(relay: RunningRelay) -> None:
    context = server_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with serving(greeting(b""), context=context) as address:
        found = await find(case_of(relay, connect_to=address), Fault.TLS_TOO_OLD)

    assert "TLSv1.1" in found.what


async def test_a_handshake_that_is_cut(relay: RunningRelay) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with serving(cut) as address:
        await find(case_of(relay, connect_to=address), Fault.TLS_FAILED)


async def test_a_relays_own_authority_that_was_not_given(relay: RunningRelay) -> None:
    found = await find(case_of(relay, ca=None), Fault.UNTRUSTED_ISSUER)

    assert "'Hybridge development CA" in found.what
    assert "hybridge-relay ca" in found.next_step


async def test_a_proxy_that_inspects_tls_and_its_issuer(
    relay: RunningRelay, tmp_path: Path
) -> None:
    authority = Authority("Corp Proxy CA", tmp_path)
    shown = authority.server_context(HOST)
    async with in_between(relay.connect_to, shown=shown) as address:
        found = await find(case_of(relay, connect_to=address), Fault.UNTRUSTED_ISSUER)
        trusting = await examine(case_of(relay, connect_to=address, ca=authority.path))

    assert "'Corp Proxy CA'" in found.what
    assert "inspects TLS" in found.next_step
    assert verdicts(trusting)[Check.TOKEN] is Verdict.OK


async def test_a_certificate_for_another_name(relay: RunningRelay) -> None:
    text = relay.connection_string().replace(HOST, "relay.example.test")
    found = await find(case_of(relay, text), Fault.WRONG_NAME)

    assert "*.servicebus.windows.net" in found.what


async def test_a_certificate_that_is_over(relay: RunningRelay, tmp_path: Path) -> None:
    authority = Authority("Corp CA", tmp_path)
    shown = authority.server_context(HOST, ends_in=datetime.timedelta(seconds=-5))
    async with in_between(relay.connect_to, shown=shown) as address:
        case = case_of(relay, connect_to=address, ca=authority.path)
        await find(case, Fault.CERTIFICATE_EXPIRED)


async def test_tls_with_something_that_is_no_relay(relay: RunningRelay) -> None:
    for text in (b"220 mail.example.test ESMTP\r\n", b"HTTP?\r\n\r\n"):
        async with serving(greeting(text), context=server_context()) as address:
            case = case_of(relay, connect_to=address, timeout_seconds=0.3)
            await find(case, Fault.NOT_A_RELAY)


def dated(seconds: float) -> Callable[[bytes], bytes]:
    """Change the date of an answer, as a relay has it whose clock is ahead."""

    def edit(head: bytes) -> bytes:
        date = formatdate(time.time() + seconds, usegmt=True).encode()
        return re.sub(rb"(?i)\r\ndate: [^\r]*", b"\r\nDate: " + date, head)

    return edit


@pytest.mark.parametrize(
    ("seconds", "fault", "verdict", "shown"),
    [
        (600, Fault.CLOCK_BEHIND, Verdict.FAIL, "10 min behind"),
        (100, Fault.CLOCK_BEHIND, Verdict.WARN, " s behind"),
        (-600, Fault.CLOCK_AHEAD, Verdict.WARN, "10 min ahead"),
    ],
)
async def test_a_clock_that_is_wrong(
    relay: RunningRelay, seconds: float, fault: Fault, verdict: Verdict, shown: str
) -> None:
    async with in_between(relay.connect_to, edit_response=dated(seconds)) as address:
        found = await find(case_of(relay, connect_to=address), fault, verdict=verdict)

    assert shown in found.what


def without_upgrade(head: bytes) -> bytes:
    return re.sub(rb"(?i)\r\n(?:upgrade|connection): [^\r]*", b"", head)


async def test_a_gateway_that_strips_the_upgrade(relay: RunningRelay) -> None:
    async with in_between(relay.connect_to, edit_request=without_upgrade) as address:
        await find(case_of(relay, connect_to=address), Fault.UPGRADE_STRIPPED)


async def test_a_gateway_that_answers_a_handshake_itself(relay: RunningRelay) -> None:
    def edit(head: bytes) -> bytes:
        return b"HTTP/1.1 403 No WebSockets here\r\n\r\n" if b"401" in head else head

    async with in_between(relay.connect_to, edit_response=edit) as address:
        found = await find(case_of(relay, connect_to=address), Fault.UPGRADE_STRIPPED)

    assert "403 No WebSockets here" in found.what


async def test_a_firewall_that_cuts_websockets(relay: RunningRelay) -> None:
    def edit(head: bytes) -> bytes:
        return b"" if b"websocket" in head.lower() else head

    async with in_between(relay.connect_to, edit_request=edit) as address:
        await find(case_of(relay, connect_to=address), Fault.WEBSOCKET_CUT)


# --- token ----------------------------------------------------------------------------------------


async def test_the_senders_key_given_to_the_agent(relay: RunningRelay) -> None:
    found = await find(case_of(relay, role=Role.LISTENER), Fault.WRONG_RIGHT)

    assert "'sendrule' grants no Listen" in found.what


async def test_the_listeners_key_given_to_the_client(relay: RunningRelay) -> None:
    found = await find(case_of(relay, listen_string(relay), Role.SENDER), Fault.WRONG_RIGHT)

    assert "'listenrule' grants no Send" in found.what


async def test_another_rules_key(relay: RunningRelay) -> None:
    await find(case_of(relay, relay.connection_string(key=KEY[::-1][1:] + "=")), Fault.WRONG_KEY)


async def test_a_key_that_was_cut(relay: RunningRelay) -> None:
    examination = await examine(case_of(relay, relay.connection_string(key=KEY[:-3])))

    assert [each.fault for each in examination.warnings] == [Fault.ODD_KEY]
    assert examination.cause is not None
    assert examination.cause.fault is Fault.TRUNCATED_KEY


async def test_a_token_that_is_over(relay: RunningRelay) -> None:
    token = relay.token(expires_at=int(time.time()) - 60)
    found = await find(case_of(relay, with_token(token)), Fault.TOKEN_EXPIRED)

    assert "it ended" in found.what


async def test_a_token_for_another_hybrid_connection(relay: RunningRelay) -> None:
    token = relay.token("bare", key_name="nsrule")
    found = await find(case_of(relay, with_token(token)), Fault.WRONG_AUDIENCE)

    assert "'bare'" in found.what


async def test_a_token_that_cannot_be_read(relay: RunningRelay) -> None:
    await find(case_of(relay, with_token("SharedAccessSignature x")), Fault.MALFORMED_TOKEN)


async def test_no_token_where_senders_need_one(relay: RunningRelay) -> None:
    await find(case_of(relay, f"Endpoint=sb://{HOST}/;EntityPath=hc1"), Fault.NO_TOKEN)


@pytest.mark.parametrize(
    ("answer", "fault", "verdict"),
    [
        (
            b"401 Generic: Ip has been prevented to connect to the endpoint. TrackingId:x",
            Fault.ADDRESS_BLOCKED,
            Verdict.FAIL,
        ),
        (b"503 busy TrackingId:x", Fault.TOKEN_NOT_CHECKED, Verdict.WARN),
    ],
)
async def test_a_relay_that_says_something_else_of_every_token(
    relay: RunningRelay, answer: bytes, fault: Fault, verdict: Verdict
) -> None:
    def edit(head: bytes) -> bytes:
        _, end, rest = head.partition(b"\r\n")
        return b"HTTP/1.1 " + answer + end + rest

    async with in_between(relay.connect_to, edit_response=edit) as address:
        await find(case_of(relay, connect_to=address), fault, verdict=verdict)


# --- the proxy ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handle", "fault"),
    [
        (answering(b"HTTP/1.1 407 Who are you\r\n\r\n"), Fault.PROXY_AUTHENTICATION),
        (answering(b"HTTP/1.1 403 Not that way\r\n\r\n"), Fault.PROXY_REFUSES),
        (answering(b"HTTP/1.1 502 No such name\r\n\r\n"), Fault.PROXY_FAILED),
        (answering(b"SSH-2.0-OpenSSH\r\n\r\n"), Fault.PROXY_GARBAGE),
        (silent, Fault.PROXY_TIMEOUT),
    ],
)
async def test_a_proxy_that_does_not_let_us_through(
    relay: RunningRelay, handle: Handle, fault: Fault
) -> None:
    async with serving(handle) as (host, port):
        proxy = f"http://user:{KEY.rstrip('=')}@{host}:{port}"
        found = await find(case_of(relay, proxy=parse_proxy(proxy), timeout_seconds=0.5), fault)

    assert KEY.rstrip("=") not in found.what + found.next_step


@pytest.mark.parametrize(
    ("proxy", "host", "fault"),
    [
        (f"http://{'p' * 64}.corp.local:3128", "p" * 64, Fault.NAME_UNKNOWN),
        ("socks5://127.0.0.1:1", "127.0.0.1", Fault.PORT_CLOSED),
    ],
)
async def test_a_proxy_that_is_not_there(
    relay: RunningRelay, proxy: str, host: str, fault: Fault
) -> None:
    found = await find(case_of(relay, proxy=parse_proxy(proxy)), fault)

    assert host in found.what


async def test_a_proxy_that_leads_to_the_relay(relay: RunningRelay) -> None:
    proxy = ConnectProxy({f"{HOST}:443": relay.connect_to})
    async with agent(relay), serving(proxy.handle) as (host, port):
        case = case_of(relay, proxy=parse_proxy(f"http://{host}:{port}"), connect_to=None)
        examination = await examine(case)

    assert examination.cause is None
    assert verdicts(examination)[Check.PROXY] is Verdict.OK
    assert set(proxy.asked) == {f"{HOST}:443"}


# --- the hybrid connection ------------------------------------------------------------------------


async def test_a_hybrid_connection_that_does_not_exist(relay: RunningRelay) -> None:
    text = relay.connection_string("gone", key_name="nsrule")
    found = await find(case_of(relay, text), Fault.ENTITY_MISSING)

    assert "'gone'" in found.what


async def test_metadata_without_an_endpoint(relay: RunningRelay) -> None:
    case = case_of(relay, listen_string(relay, "bare"))
    await find(case, Fault.METADATA_WITHOUT_ENDPOINT)

    as_sender = case_of(relay, relay.connection_string("bare"))
    await find(as_sender, Fault.METADATA_WITHOUT_ENDPOINT, verdict=Verdict.WARN)


async def test_no_listener(relay: RunningRelay) -> None:
    await find(case_of(relay), Fault.NO_LISTENER)


# --- the target -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        (("127.0.0.1", 1), Fault.TARGET_REFUSES),
        (("x" * 64 + ".corp.local", 5432), Fault.TARGET_NAME_UNKNOWN),
    ],
)
async def test_a_target_that_is_not_there(
    relay: RunningRelay, target: tuple[str, int], fault: Fault
) -> None:
    async with agent(relay):
        found = await find(case_of(relay, listen_string(relay), targets=(target,)), fault)

    assert target[0] in found.what


async def test_a_target_that_does_not_answer(
    relay: RunningRelay, black_hole: tuple[str, int]
) -> None:
    async with agent(relay):
        case = case_of(relay, listen_string(relay), targets=(black_hole,), timeout_seconds=0.4)
        await find(case, Fault.TARGET_TIMEOUT)


async def test_a_target_without_a_way_there(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_route(host: str, port: int) -> None:
        raise Unreachable(f"{host}:{port} cannot be reached: Network is unreachable", status=502)

    monkeypatch.setattr("devstack.doctor.destination.dial_socket", no_route)
    async with agent(relay):
        case = case_of(relay, listen_string(relay), targets=(("192.0.2.1", 1),))
        await find(case, Fault.TARGET_UNREACHABLE)


async def test_nobody_says_where_the_target_is_and_the_listener_has_metadata_without(
    relay: RunningRelay,
) -> None:
    examination = await examine(case_of(relay, listen_string(relay, "bare")))

    found = [each.fault for each in examination.findings if each.verdict is Verdict.FAIL]
    assert found == [Fault.METADATA_WITHOUT_ENDPOINT, Fault.NO_TARGET]


async def test_a_target_is_looked_at_though_the_relay_cannot_be_reached(
    relay: RunningRelay,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        case = case_of(
            relay, role=Role.LISTENER, connect_to=("127.0.0.1", free_port()),
            targets=(listening.getsockname(),),
        )  # fmt: skip
        examination = await examine(case)

    assert verdicts(examination)[Check.TCP] is Verdict.FAIL
    assert verdicts(examination)[Check.TARGET] is Verdict.OK


# --- the far end ----------------------------------------------------------------------------------


async def accepting(connection: IncomingConnection) -> None:
    stream = await connection.accept()
    await stream.receive()
    stream.abort()


@asynccontextmanager
async def agent(
    relay: RunningRelay,
    answer: Callable[[IncomingConnection], Awaitable[None]] = accepting,
    path: str = "hc1",
) -> AsyncIterator[None]:
    """An agent that does with each sender what the test says."""

    async def serve(listener: Listener) -> None:
        async for connection in listener:
            with contextlib.suppress(RelayError):
                await answer(connection)

    text = listen_string(relay, path)
    async with Listener(text, ca=relay.ca, connect_to=relay.connect_to) as listener:
        await listener.wait_online()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve(listener))
            yield
            serving.cancel()


async def test_all_is_well_for_a_sender(relay: RunningRelay) -> None:
    async with agent(relay):
        examination = await examine(case_of(relay))

    assert examination.cause is None
    assert examination.role is Role.SENDER
    found = verdicts(examination)
    assert found.pop(Check.TARGET) is found.pop(Check.PROXY) is Verdict.SKIPPED
    assert set(found.values()) == {Verdict.OK}
    assert examination.findings[-1].what.endswith("and it holds")


async def test_all_is_well_for_a_listener(relay: RunningRelay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with agent(relay):
            case = case_of(relay, listen_string(relay), targets=(listening.getsockname(),))
            examination = await examine(case)

    assert examination.role is Role.LISTENER
    found = verdicts(examination)
    assert found.pop(Check.CONNECTION) is found.pop(Check.PROXY) is Verdict.SKIPPED
    assert set(found.values()) == {Verdict.OK}


async def test_senders_need_no_token_where_the_relay_asks_for_none(relay: RunningRelay) -> None:
    async with agent(relay, path="open"):
        examination = await examine(case_of(relay, f"Endpoint=sb://{HOST}/;EntityPath=open"))

    assert examination.cause is None
    assert verdicts(examination)[Check.CONNECTION] is Verdict.OK


async def test_a_server_that_speaks_first_is_noticed(relay: RunningRelay) -> None:
    async def greet(connection: IncomingConnection) -> None:
        stream = await connection.accept()
        await stream.send(b"220 hello")
        await stream.receive()
        stream.abort()

    async with agent(relay, greet):
        examination = await examine(case_of(relay))

    assert examination.findings[-1].what.endswith("the other end speaks first")


async def test_an_agent_that_rejects(relay: RunningRelay) -> None:
    async def reject(connection: IncomingConnection) -> None:
        await connection.reject(502, "The target db1:5432 refused the connection.")

    async with agent(relay, reject):
        found = await find(case_of(relay), Fault.LISTENER_REJECTS)

    assert "502 The target db1:5432 refused the connection." in found.what
    assert "target running" in found.next_step


async def test_an_agent_that_does_not_come(relay: RunningRelay) -> None:
    async def hang(_: IncomingConnection) -> None:
        await asyncio.Event().wait()

    async with agent(relay, hang):
        found = await find(case_of(relay), Fault.LISTENER_DOES_NOT_COME)

    assert "gateways" in found.next_step


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_connection_that_breaks_at_once(relay: RunningRelay, in_order: bool) -> None:
    async def leave(connection: IncomingConnection) -> None:
        stream = await connection.accept()
        if in_order:
            await stream.close()
        stream.abort()

    async with agent(relay, leave):
        await find(case_of(relay), Fault.CONNECTION_LOST)


async def test_as_many_listeners_as_there_may_be(
    relay: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entity, "MAX_LISTENERS", 1)
    async with agent(relay):
        case = case_of(relay, listen_string(relay), targets=(("127.0.0.1", relay.port),))
        await find(case, Fault.LISTENERS_FULL, verdict=Verdict.WARN)


# --- there and back -------------------------------------------------------------------------------


async def round_trip(relay: RunningRelay) -> Finding:
    both = case_of(relay, relay.connection_string(key_name="nsrule"))
    examination = Examination(case=both)
    async for _ in examination.run():
        pass
    return await examination.run_round_trip(examination)


async def test_a_byte_goes_there_and_back(relay: RunningRelay) -> None:
    found = await round_trip(relay)

    assert found.verdict is Verdict.OK
    assert re.fullmatch(r"made in \d+ ms; a byte there and back in \d+\.\d ms", found.what)


async def test_the_senders_of_others_go_to_others(relay: RunningRelay) -> None:
    arrived = asyncio.Event()

    async def note(_: IncomingConnection) -> None:
        arrived.set()

    async with agent(relay, note):
        found = await conversation.try_round_trip(
            case_of(relay), parse(listen_string(relay)), parse(relay.connection_string())
        )

    assert found.verdict is Verdict.OK
    assert not arrived.is_set()


async def test_a_gateway_that_cannot_be_reached() -> None:
    settings = RelaySettings(drain_seconds=0.0, public_host="g" * 64 + ".servicebus.windows.net")
    async with running_relay(settings=settings) as relay:
        found = await conversation.try_round_trip(
            case_of(relay), parse(listen_string(relay)), parse(relay.connection_string())
        )

    assert (found.fault, found.verdict) == (Fault.RENDEZVOUS_UNREACHABLE, Verdict.FAIL)
    assert "g" * 64 in found.what
