"""One hybrid connection under test: its two ends, and the switches for what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app_client.settings import DEFAULT_LISTEN_HOST, ClientSettings, Forward
from devstack.testing.ends import LIVES, Agent, Client
from devstack.testing.errors import Absent, Ended, hinted
from devstack.testing.leaks import Leak, leaks_of
from hcm_agent.http_target import HttpTarget
from hcm_agent.settings import HybridConnectionSettings, Target
from hybridge.protocol.connection_string import ConnectionString

if TYPE_CHECKING:
    from devstack.testing.own_relay import Relay
    from relay.gateway import Gateway

REFUSED_STATUS = 503
REFUSED_REASON = "The service is busy."


class Undo:
    """Ends what a switch began, at the end of a ``with`` block; without one it goes on."""

    def __init__(self, undo: Callable[[], None]) -> None:
        self._undo = undo

    def __enter__(self) -> None:
        """Nothing more: it has begun."""

    def __exit__(self, *_: object) -> None:
        self._undo()


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """How to get at a hybrid connection, for either role."""

    name: str
    """Its name in the namespace."""

    namespace: str
    """Host name of the namespace: ``NAME.servicebus.windows.net``."""

    listen_connection_string: str = field(repr=False)
    """For a listener, as Azure's portal would show it. Give `connect_to` and `ca` along with it."""

    send_connection_string: str = field(repr=False)
    """For a sender."""

    ca: Path
    """What listeners and senders must trust."""

    connect_to: tuple[str, int]
    """Where the relay listens: stands for every address that names the namespace."""

    @property
    def url(self) -> str:
        """Where HTTP senders send to; TCP goes to `connect_to`."""
        return f"https://{self.namespace}/{self.name}"


class Located:
    """What async and blocking hybrid connections have in common: how to get at them."""

    def __init__(self, coordinates: Coordinates) -> None:
        self.coordinates = coordinates

    @property
    def name(self) -> str:
        """Its name in the namespace."""
        return self.coordinates.name

    @property
    def namespace(self) -> str:
        """Host name of the namespace."""
        return self.coordinates.namespace

    @property
    def listen_connection_string(self) -> str:
        """See `Coordinates.listen_connection_string`."""
        return self.coordinates.listen_connection_string

    @property
    def send_connection_string(self) -> str:
        """See `Coordinates.send_connection_string`."""
        return self.coordinates.send_connection_string

    @property
    def ca(self) -> Path:
        """What listeners and senders must trust."""
        return self.coordinates.ca

    @property
    def connect_to(self) -> tuple[str, int]:
        """Where the relay listens."""
        return self.coordinates.connect_to

    @property
    def url(self) -> str:
        """See `Coordinates.url`."""
        return self.coordinates.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {self.namespace}>"


class HybridConnection(Located):
    """A hybrid connection with its agent and client. Made by `Namespace.hybrid_connection`.

    Args:
        relay: Where it is served.
        coordinates: How to get at it.
        entity: Its name in the whole relay.
        listen: What the agent connects with.
        send: What the client connects with.
        target: What the agent leads to; None: there is no agent.
    """

    def __init__(
        self,
        relay: Relay,
        coordinates: Coordinates,
        *,
        entity: str,
        listen: ConnectionString,
        send: ConnectionString,
        target: Target | HttpTarget | None,
    ) -> None:
        super().__init__(coordinates)
        self._relay = relay
        self._entity = entity
        self._send = send
        self._agent: Agent | None = None
        self._client: Client | None = None
        self._local: tuple[str, int] | None = None
        self._has_ended = False
        if target is not None:
            settings = HybridConnectionSettings(
                connection_string=listen,
                target=target,
                # The target shall see the test's connections, and no others.
                endpoint_check_seconds=0.0,
                ca=coordinates.ca,
                connect_to=coordinates.connect_to,
            )
            self._agent = Agent(settings, relay.tasks)
            relay.agents.add(self._agent)

    async def open_port(self) -> None:
        """Start the client: from now on there is a local port."""
        forward = Forward(connection_string=self._send, listen=(DEFAULT_LISTEN_HOST, 0))
        settings = ClientSettings(
            forwards=(forward,),
            ca=self.coordinates.ca,
            connect_to=self.coordinates.connect_to,
            drain_seconds=0.0,
            is_multiplexing=False,  # A switch is about one connection: each has its rendezvous.
        )
        self._client = Client(forward, settings)
        self._local = await self._client.start(self._relay.tasks)

    # --- its two ends -------------------------------------------------------------------------

    @property
    def local_address(self) -> tuple[str, int]:
        """Host and port that lead to the target, as `socket.create_connection` takes them.

        Raises:
            Absent: It was made without a client.
        """
        if self._local is None:
            problem = f"hybrid connection {self.name!r} has no client, and so no local port"
            with hinted():
                raise Absent(problem, hint="make it with client=True, or connect as a sender")
        return self._local

    @property
    def host(self) -> str:
        """Host of `local_address`."""
        return self.local_address[0]

    @property
    def port(self) -> int:
        """Port of `local_address`."""
        return self.local_address[1]

    @property
    def agent(self) -> Agent:
        """The agent, to be stopped and started.

        Raises:
            Absent: It was made without a target.
        """
        if self._agent is None:
            problem = f"hybrid connection {self.name!r} has no target, and so no agent"
            with hinted():
                raise Absent(problem, hint="make it with a target: HOST:PORT")
        return self._agent

    @property
    def open_connections(self) -> int:
        """Connections that are joined at the relay now."""
        return len(self._gateway.websockets.pairs.of(self._entity))

    # --- what goes wrong ----------------------------------------------------------------------

    def sever(self, *, close: bool = True) -> int:
        """End every live connection, relayed HTTP requests included, at the relay.

        Args:
            close: With a WebSocket Close to both sides: the application and the target see an
                orderly end. Without: TCP is reset, and so they see it.

        Returns:
            How many there were.
        """
        gateway = self._gateway
        requests = gateway.http.requests(self._entity)
        for request in requests:
            request.abort("severed")
        return gateway.faults.sever(self._entity, close=close) + len(requests)

    def refuse(self, status: int = REFUSED_STATUS, reason: str = REFUSED_REASON) -> Undo:
        """Have the relay refuse new senders, until `admit` or the end of a ``with`` block.

        Args:
            status: HTTP status, from 400 to 599.
            reason: Its reason; the relay adds a TrackingId, as Azure does.

        Raises:
            InvalidSetting: ``status`` is no HTTP error.
        """
        self._gateway.faults.refuse(self._entity, status, reason)
        return Undo(self.admit)

    def admit(self) -> None:
        """Let new senders in again."""
        self._gateway.faults.admit(self._entity)

    def stall(self) -> Undo:
        """Have bytes stop both ways, until `resume` or the end of a ``with`` block.

        As in a network that loses everything: no connection ends, new ones come about and carry
        nothing. After 25 s without a pong both ends take theirs for broken. Relayed HTTP requests
        are not stalled.
        """
        self._gateway.faults.stall(self._entity)
        return Undo(self.resume)

    def resume(self) -> None:
        """Let bytes go on where they stopped."""
        self._gateway.faults.resume(self._entity)

    def expire_tokens(self) -> int:
        """Have the tokens of all control channels expire now: the relay closes them with 1008.

        Live connections go on. The agent connects again with a new token: `Agent.wait_connected`.

        Returns:
            How many there were.
        """
        count = self._gateway.faults.expire_tokens(self._entity)
        if self._agent is not None:
            self._agent.lost()
        return count

    # --- the end ------------------------------------------------------------------------------

    def leaks(self) -> list[Leak]:
        """What is open now besides agent and client."""
        agents = 1 if self._agent is not None and self._agent.is_connected else 0
        local = {} if self._client is None else dict(self._client.connections)
        gateway = self._relay.gateway
        return list(leaks_of(gateway, self._entity, name=self.name, local=local, agents=agents))

    def calm(self) -> None:
        """Switch off what goes wrong."""
        self.admit()
        self.resume()

    async def end(self) -> list[Leak]:
        """Stop the client, then the agent; give their tasks that did not end."""
        self._has_ended = True
        if self._agent is not None:
            self._relay.agents.discard(self._agent)
        leaks: list[Leak] = []
        for each in (self._client, self._agent):
            if each is not None:
                try:
                    await each.end()
                except TimeoutError as error:
                    leaks.append(Leak("task", str(error)))
        return leaks

    @property
    def _gateway(self) -> Gateway:
        if self._has_ended:
            with hinted():
                problem = f"hybrid connection {self.name!r} was used after its end"
                raise Ended(problem, hint=LIVES)
        return self._relay.gateway
