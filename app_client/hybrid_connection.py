"""One hybrid connection: learn its target, keep its local port open until it is retired."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from app_client import send_right
from app_client.forwarder import Forwarder, Outside
from app_client.local_port import LocalAddress, LocalPort
from app_client.placement import Placement
from app_client.reminder import Reminder
from app_client.settings import ClientSettings, Forward
from app_client.target_lookup import find_target
from app_client.udp_forwarder import UdpForwarder
from hybridge.program.advice import advice
from hybridge.protocol.azbridge import Mode
from hybridge.protocol.backoff import Backoff
from hybridge.protocol.claims import Claim
from hybridge.protocol.errors import RelayError
from hybridge.transport.unix_listening import UnixAddress

logger = logging.getLogger(__name__)


class HybridConnection:
    """Serves one hybrid connection's local port, from when it can be opened until it is retired.

    Attributes:
        failure: Why the local port is not open, where waiting for the relay would not help.

    Args:
        forward: Where to listen, and where it leads.
        settings: What all of the process have in common.
        max_connections: Connections beyond this wait in the kernel's backlog.
        placement: Gives the local address, where nobody chose one.
        wants_target: Whether to ask for the target also where the local address is known.
        on_open: Called when the port has opened.
        on_change: Called after that, and when the target has become known later.
        is_hopeless: Called after a failure: whether to give up.
        outside: The relay.
    """

    def __init__(
        self,
        forward: Forward,
        settings: ClientSettings,
        *,
        max_connections: int,
        placement: Placement,
        wants_target: bool,
        on_open: Callable[[HybridConnection, LocalAddress], None],
        on_change: Callable[[], None],
        is_hopeless: Callable[[], bool],
        outside: Outside,
    ) -> None:
        kind = UdpForwarder if forward.mode is Mode.DATAGRAM else Forwarder
        self.port: LocalPort = kind(
            forward, settings, max_connections=max_connections, outside=outside
        )
        self.forward = forward
        self.failure: RelayError | None = None
        self._placement = placement
        self._wants_target = wants_target and not forward.connection_string.is_anonymous
        self._on_open = on_open
        self._on_change = on_change
        self._is_hopeless = is_hopeless
        self._outside = outside
        self._retired = asyncio.Event()
        self._labels: dict[str, object] = {
            "hybrid_connection": forward.name,
            "namespace": forward.namespace,
        }

    @property
    def name(self) -> str:
        """Its name."""
        return self.forward.name

    @property
    def address(self) -> LocalAddress | None:
        """Where the local port is, once it is open."""
        return self.port.address

    def retire(self) -> None:
        """Take no more connections; `run` returns when the last one has ended."""
        self._retired.set()
        self.port.stop_listening()
        self._placement.release(self.forward)

    async def run(self) -> None:
        """Serve until retired, then until the last connection has ended.

        Raises:
            RelayError: The port could not be opened, and `is_hopeless` says to give up.
        """
        if send_right.is_suspect(self.forward):
            send_right.warn_of_name(self.forward)
        try:
            self._on_open(self, await self._open())
            async with asyncio.TaskGroup() as tasks:
                learning = tasks.create_task(self._learn_target(), name=f"{self.name} target")
                asking = tasks.create_task(self._check_right(), name=f"{self.name} right")
                self._on_change()
                await self.port.run(self._retired)
                learning.cancel()
                asking.cancel()
        finally:
            self.port.close()

    async def _open(self) -> LocalAddress:
        loop = asyncio.get_running_loop()
        backoff = Backoff(random.uniform)
        reminder = Reminder()
        while True:
            await asyncio.sleep(backoff.next_delay(loop.time()))
            try:
                address = self.port.open(await self._local_address())
            except RelayError as error:
                self.failure = error
                if self._is_hopeless():
                    raise
                logger.log(
                    logging.ERROR if reminder.is_due(error, loop.time()) else logging.DEBUG,
                    "not open, the others go on: %s",
                    error,
                    extra={
                        "event": "not_open",
                        **self._labels,
                        "hint": advice(error, claim=Claim.SEND),
                    },
                )
            else:
                self.failure = None
                return address

    async def _local_address(self) -> LocalAddress | UnixAddress:
        if self.forward.listen is not None:
            return self.forward.listen
        if self.port.target is None:
            self.port.target = await self._find_target()
        return self._placement.place(self.forward, self.port.target)

    async def _learn_target(self) -> None:
        if self.port.target is not None or not self._wants_target:
            return
        try:
            self.port.target = await self._find_target()
        except RelayError as error:
            logger.warning(
                "its target is not known: %s",
                error,
                extra={"event": "target_unknown", **self._labels, "hint": error.hint},
            )
        else:
            self._on_change()

    async def _check_right(self) -> None:
        if not send_right.is_suspect(self.forward):
            return
        answer: bool | RelayError | None
        try:
            answer = await self._outside.may_send(self.forward, self.port.settings)
        except RelayError as error:
            answer = error
        send_right.tell(self.forward, answer)

    async def _find_target(self) -> tuple[str, int]:
        settings = self.port.settings
        return await find_target(
            lambda: self._outside.read_metadata(self.forward, settings), labels=self._labels
        )
