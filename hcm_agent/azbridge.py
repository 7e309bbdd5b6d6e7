"""One accepted connection of a sender that speaks azbridge: preamble, then its target."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from hcm_agent.allow_list import TargetNotAllowed
from hcm_agent.port_names import NamedTarget
from hcm_agent.settings import Target
from hcm_agent.target import ANSWER_SECONDS, DIAL_SECONDS, WaitingSender
from hybridge.program.carrying import carry
from hybridge.program.datagrams import Conversation, carry_datagrams
from hybridge.protocol.azbridge import ListenerPreamble, Mode
from hybridge.protocol.errors import RelayError
from hybridge.transport.ending import Ending
from hybridge.transport.prefaced import PrefacedStream
from hybridge.transport.stream import Stream
from hybridge.transport.udp import Peer, UdpSocket

logger = logging.getLogger(__name__)


class PortDialer(Protocol):
    """The part of `hcm_agent.target_dialer.TargetDialer` that is needed here."""

    async def dial(self, target: Target) -> Stream: ...

    async def dial_udp(self, host: str, port: int) -> UdpSocket: ...


async def serve(
    sender: WaitingSender,
    ports: Sequence[NamedTarget],
    *,
    preamble_seconds: float,
    idle_seconds: float,
    dialer: PortDialer,
    labels: Mapping[str, object],
    ending: Ending,
) -> None:
    """Accept a waiting sender, hear which port it wants, and join it to that target.

    Where no port opens, it is answered as section 10.1 has it and closed in order. The positive
    answer comes before the target is tried: where that fails, the connection breaks.

    Args:
        sender: Who waits at the rendezvous.
        ports: Where it may lead.
        preamble_seconds: How long the preamble may take.
        idle_seconds: How long datagrams may be silent.
        dialer: Opens connections to the targets.
        labels: What each log line carries.
        ending: Of the agent: what is not joined then breaks soon, what is joined goes on.

    Raises:
        Stopping: The agent stops, and the preamble is not complete.
        RelayError: The rendezvous failed, or broke within the preamble.
    """
    labels = {**labels, "id": sender.id}
    preamble = ListenerPreamble({each.port_name: each.mode for each in ports})
    async with ending.grace(ANSWER_SECONDS):
        near = PrefacedStream(await sender.accept(), preamble)
        try:
            try:
                async with asyncio.timeout(preamble_seconds):
                    await near.read_preamble()
            except TimeoutError:
                pass  # As if the sender had finished.
            if preamble.reply:
                near.send_message(preamble.reply)
            if preamble.port_name is None:
                _log_refusal(preamble, labels)
                await near.close()
                return
        except BaseException:
            near.abort()
            raise
    target = next(each for each in ports if each.port_name == preamble.port_name)
    labels = {**labels, "target": str(target)}
    try:
        async with ending.grace(DIAL_SECONDS):
            far = await _open(target, dialer)
    except RelayError as error:
        near.abort()
        not_allowed = isinstance(error, TargetNotAllowed)
        event = "target_not_allowed" if not_allowed else "target_failed"
        logger.warning(
            "%s",
            error,
            extra={"event": event, **labels, "hint": error.hint},
        )
        return
    except BaseException:
        near.abort()
        raise
    if isinstance(far, UdpSocket):
        with far:
            await _converse(near, far, labels, idle_seconds, ending)
    else:
        await carry(near, far, labels=labels)


async def _open(target: NamedTarget, dialer: PortDialer) -> Stream | UdpSocket:
    if target.mode is Mode.DATAGRAM:
        return await dialer.dial_udp(target.host, target.port)
    return await dialer.dial(Target(target.host, target.port))


async def _converse(
    near: Stream,
    far: UdpSocket,
    labels: Mapping[str, object],
    idle_seconds: float,
    ending: Ending,
) -> None:
    conversation = Conversation(near, far.send, idle_seconds=idle_seconds, ends_with_stream=False)

    def take(buffer: memoryview, start: int, end: int, peer: Peer) -> None:
        conversation.send(buffer, start, end)

    def refused() -> None:
        far.on_refusal = None  # Once is enough.
        logger.warning(
            "nothing listens for datagrams at the target",
            extra={
                "event": "target_failed",
                **labels,
                "hint": "check that the service is running and listens on this UDP port",
            },
        )

    far.on_refusal = refused
    async with asyncio.TaskGroup() as tasks:
        receiving = tasks.create_task(far.receive(take), name=f"datagrams {labels['id']}")
        await carry_datagrams(conversation, ending, is_towards_target=False, labels=labels)
        receiving.cancel()


def _log_refusal(preamble: ListenerPreamble, labels: Mapping[str, object]) -> None:
    logger.warning(
        "refused: %s",
        preamble.problem,
        extra={
            "event": "connection_refused",
            **labels,
            "hint": "each port that a sender asks for needs a target with its name",
        },
    )
