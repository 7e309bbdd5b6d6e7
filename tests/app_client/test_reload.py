"""What a reload opens, closes and leaves alone."""

from __future__ import annotations

import pytest

from app_client.settings import ClientSettings
from hybridge.protocol.errors import (
    AuthorizationFailed,
    InvalidSetting,
)
from hybridge.transport.stream import Stream
from hybridge.transport.tcp import dial_tcp
from tests.support.agent_ends import free_port
from tests.support.client_ends import (
    Relay,
    dial,
    running,
    to,
    with_event,
)
from tests.support.until import until


async def test_a_hang_up_without_a_file_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Relay(), to("orders")) as client:
        await client.addresses.get()
        client.hang_up()

        assert not client.lifetime.stopping.is_set()
    assert with_event(caplog, "reload_refused")


async def test_a_reload_opens_what_is_new_closes_what_is_gone_and_cuts_nothing() -> None:
    relay = Relay()
    port = free_port()
    gone, kept = to("gone", listen=("127.0.0.1", port)), to("kept")
    new = to("new", listen=("127.0.0.1", port))
    reloads = [ClientSettings(forwards=(kept, new))]
    async with running(relay, gone, kept, reloads=reloads) as client:
        found = dict([await client.addresses.get(), await client.addresses.get()])
        ends: list[Stream] = []
        for name in ("gone", "kept"):
            ends += [await dial_tcp(*found[name]), await relay.far_ends.get()]

        client.hang_up()
        # The new one takes the port of the one that is gone.
        assert await client.addresses.get() == ("new", ("127.0.0.1", port))
        ends += [await dial_tcp("127.0.0.1", port), await relay.far_ends.get()]
        ends += [await dial_tcp(*found["kept"]), await relay.far_ends.get()]
        assert client.addresses.empty()

        for near, far in zip(ends[::2], ends[1::2], strict=True):
            await near.send(b"still here")
            assert await far.receive() == b"still here"
        for end in ends:
            end.abort()

    assert relay.names == ["gone", "kept", "new", "kept"]


async def test_a_reload_with_an_error_in_the_file_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    relay = Relay()
    error = InvalidSetting("client.json: HybridConections", "unknown key", hint="HybridConnections")
    async with running(relay, to("orders"), reloads=[error]) as client:
        _, address = await client.addresses.get()

        client.hang_up()

        ends = [await dial_tcp(*address), await relay.far_ends.get()]
        for end in ends:
            end.abort()
    (record,) = with_event(caplog, "reload_refused")
    assert "unknown key" in record.message
    assert record.__dict__["hint"] == "HybridConnections"


async def test_after_a_reload_nothing_that_works_is_ended_by_what_does_not() -> None:
    relay = Relay(metadata=AuthorizationFailed("401 InvalidSignature"))
    reloads = [ClientSettings(forwards=(to("stock", listen=None),))]
    async with running(relay, to("orders"), reloads=reloads) as client:
        application = await dial(client)
        target = await relay.far_ends.get()

        client.hang_up()
        await until(lambda: any(each.failure for each in client.client.served))

        await application.send(b"still here")
        assert await target.receive() == b"still here"
        for end in (application, target):
            end.abort()
