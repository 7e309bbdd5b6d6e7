"""The service behind the verbs: what is configured and what was added, served by one agent."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hcm_agent.description import ADDED, describe, namespace_name
from hcm_agent.settings import AgentSettings, AgentSources, Key, check_has_key
from hcm_agent.status import State
from hcm_agent.store import AddedConnection, Store
from hybridge.program.connection_strings import parse_for_one
from hybridge.protocol.errors import RelayError, Stopping

if TYPE_CHECKING:
    from hcm_agent.agent import Agent
    from hcm_agent.hybrid_connection import HybridConnection
    from hcm_agent.key_storage import Keys

logger = logging.getLogger(__name__)

FACTS_SECONDS = 5.0
"""What the relay said is asked again for a listing when it is older."""

FACTS_WAIT_SECONDS = 2.0
"""How long a listing waits for the relay; then it shows what is known."""

MAX_QUESTIONS = 16
"""Hybrid connections that the relay is asked about at a time."""

SETTLE_SECONDS = 3.0
"""How long ``add`` and ``restart`` wait to see whether the listener connects."""


class NotServed(RelayError):
    """This service has no such hybrid connection."""

    status = 404


class AlreadyServed(RelayError):
    """This service has that hybrid connection."""

    status = 409


class NotAdded(RelayError):
    """The hybrid connection is configured: no verb changes that."""

    status = 409


class Service:
    """Adds, removes, restarts and describes the hybrid connections of a running agent.

    Args:
        sources: What is configured.
        store: What was added.
        keys: Where the connection strings of those to come are kept.
    """

    def __init__(self, sources: AgentSources, store: Store, *, keys: Keys) -> None:
        self._sources = sources
        self._store = store
        self._keys = keys
        self._configured = AgentSettings(hybrid_connections=())
        self._added: list[AddedConnection] = []
        self._changing = asyncio.Lock()
        self._questions = asyncio.Semaphore(MAX_QUESTIONS)
        self._news = asyncio.Event()
        self.agent: Agent | None = None
        """Serves it; set before the first verb comes."""

    @property
    def configured(self) -> AgentSettings:
        """What is configured now: what was added has these settings too."""
        return self._configured

    def load(self) -> AgentSettings:
        """Read what is configured and what was added: at start, and for a reload.

        Raises:
            RelayError: One of both cannot be used. Nothing has changed then.
        """
        configured = self._sources.load()
        added = self._store.read()
        settings = _together(configured, added, self._store)
        for each in _hidden(configured, added):
            logger.warning(
                "%s is configured and was added too: what is configured is served",
                each.account,
                extra={"event": "configured_twice", "hint": "remove one of the two"},
            )
        self._configured, self._added = configured, added
        return settings

    def changed(self) -> None:
        """Hear from the agent that something is different."""
        self._news.set()

    # --- what is there ------------------------------------------------------------------------

    async def list_all(
        self, *, ask_relay: bool = True, look_at_endpoints: bool = True
    ) -> list[dict[str, object]]:
        """Describe every hybrid connection, in the order of the configuration and of ``add``.

        Who asks again and again leaves the endpoints alone: they are connected to for that.
        """
        if ask_relay:
            await self._refresh(
                self._running.hybrid_connections, look_at_endpoints=look_at_endpoints
            )
        return [self._describe(each) for each in self._running.hybrid_connections]

    async def show(self, namespace: str, name: str) -> dict[str, object]:
        """Describe one.

        Raises:
            NotServed: There is none of that name.
        """
        served = self._find(namespace, name)
        await self._refresh([served])
        return self._describe(served)

    async def _refresh(
        self, all_served: Sequence[HybridConnection], *, look_at_endpoints: bool = True
    ) -> None:
        async def ask(served: HybridConnection) -> None:
            async with self._questions:
                await served.facts.refresh(max_age_seconds=FACTS_SECONDS)

        try:
            async with asyncio.timeout(FACTS_WAIT_SECONDS), asyncio.TaskGroup() as tasks:
                for served in all_served:
                    if look_at_endpoints:
                        looking = served.look_at_endpoints()
                        tasks.create_task(looking, name=f"endpoints {served.settings.name}")
                    # The relay of one that is offline would keep everybody waiting.
                    if served.status.is_connected:
                        tasks.create_task(ask(served), name=f"facts {served.settings.name}")
        except TimeoutError:
            return

    def _describe(self, served: HybridConnection) -> dict[str, object]:
        key = served.settings.key
        return describe(
            served,
            open_connections=self._running.open_connections(key),
            source=served.settings.source if self._is_configured(key) else ADDED,
            allow_list=self._configured.allow_list,
        )

    # --- changes ------------------------------------------------------------------------------

    async def add(
        self, connection_string: str, *, targets: Sequence[str] = (), azbridge: bool = False
    ) -> dict[str, object]:
        """Serve one more from now on, also after a restart of the service.

        One that the relay does not know is replaced: it was deleted there, and made anew.

        Raises:
            AlreadyServed: It is here, and the relay knows it.
            InvalidSetting: The connection string or a target cannot be used.
            KeyringUnusable: The keyring does not take the key.
            NotAdded: It is configured.
            Stopping: The service has been asked to stop.
            UnusableFile: It cannot be stored. Nothing has changed.
        """
        parsed = parse_for_one(connection_string, source="connection string")
        check_has_key(parsed)
        new = AddedConnection(
            connection_string=parsed, targets=tuple(targets), azbridge=azbridge, keys=self._keys
        )
        new.destination(setting="--target")
        async with self._changing:
            self._check_is_running()
            old = self._served(new.key)
            if old is not None:
                self._check_may_replace(old)
            # From the file, not from memory: what somebody mended there is not lost.
            stored = await asyncio.to_thread(self._store.read)
            stored = [*(each for each in stored if each.key != new.key), new]
            await asyncio.to_thread(self._store.write, stored)
            self._serve(stored)
            if old is not None and self._served(new.key) is old:
                self._running.restart(new.key)
        served = self._find(*new.key)
        logger.info("added", extra={"event": "added", **served.status.labels})
        await self._settle(served)
        return await self.show(*new.key)

    async def remove(self, namespace: str, name: str) -> dict[str, object]:
        """Stop serving one; its connections go on until they end.

        Returns:
            What it was.

        Raises:
            NotAdded: It is configured.
            NotServed: There is none of that name.
            Stopping: The service has been asked to stop.
            UnusableFile: It cannot be removed from the store. Nothing has changed.
        """
        async with self._changing:
            self._check_is_running()
            served = self._find(namespace, name)
            key = served.settings.key
            self._check_is_added(served)
            described = self._describe(served)
            stored = await asyncio.to_thread(self._store.read)
            gone = [each for each in stored if each.key == key]
            stored = [each for each in stored if each.key != key]
            await asyncio.to_thread(self._store.write, stored)
            self._serve(stored)
            logger.info("removed", extra={"event": "removed", **served.status.labels})
            for each in gone:
                await asyncio.to_thread(self._store.forget, each)
        return described

    async def restart(self, namespace: str, name: str) -> dict[str, object]:
        """Close one's listener and open it again; its connections go on.

        Raises:
            NotServed: There is none of that name.
            Stopping: The service has been asked to stop.
        """
        key = self._find(namespace, name).settings.key
        self._running.restart(key)
        served = self._find(*key)
        logger.info("restarted", extra={"event": "restarted", **served.status.labels})
        await self._settle(served)
        return await self.show(*key)

    def _serve(self, stored: list[AddedConnection]) -> None:
        self._running.serve(_together(self._configured, stored, self._store))
        self._added = stored

    async def _settle(self, served: HybridConnection) -> None:
        """Wait until the first try to connect has ended, well or not; not for long."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while not (served.status.is_connected or served.status.last_error):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return

    # --- which one ----------------------------------------------------------------------------

    @property
    def _running(self) -> Agent:
        if self.agent is None:
            raise AssertionError("the agent comes before the verbs")
        return self.agent

    def _served(self, key: Key) -> HybridConnection | None:
        found = (each for each in self._running.hybrid_connections if each.settings.key == key)
        return next(found, None)

    def _find(self, namespace: str, name: str) -> HybridConnection:
        """Find one by its name and any name of its namespace: ``contoso`` or the whole host."""
        all_served = self._running.hybrid_connections
        for served in all_served:
            entry = served.settings
            names = {entry.namespace.lower(), namespace_name(entry.namespace).lower()}
            if entry.name.lower() == name.lower() and _bare(namespace) in names:
                return served
        raise NotServed(
            f"there is no hybrid connection {name!r} in {namespace!r} here",
            hint=_near(f"{_bare(namespace)}/{name.lower()}", all_served),
        )

    def _check_is_running(self) -> None:
        if not self._running.is_running:
            raise Stopping("the service stops, and changes nothing", hint="start it again: hcm run")

    def _is_configured(self, key: Key) -> bool:
        return any(each.key == key for each in self._configured.hybrid_connections)

    def _check_is_added(self, served: HybridConnection) -> None:
        if self._is_configured(served.settings.key):
            entry = served.settings
            raise NotAdded(
                f"hybrid connection {entry.name!r} is configured, and no verb changes that",
                hint=f"change {entry.source}, and send SIGHUP to the service or start it again",
            )

    def _check_may_replace(self, served: HybridConnection) -> None:
        self._check_is_added(served)
        if served.status.state is State.NOT_FOUND:
            return
        entry = served.settings
        namespace = namespace_name(entry.namespace)
        raise AlreadyServed(
            f"hybrid connection {entry.name!r} in {namespace} is here already "
            f"({served.status.state.value}); nothing has changed",
            hint=f"to replace it, first: hcm remove -ns {namespace} -n {entry.name}",
        )


def _bare(namespace: str) -> str:
    return namespace_name(namespace.lower().removeprefix("sb://").rstrip("/").partition(":")[0])


def _together(
    configured: AgentSettings, added: Sequence[AddedConnection], store: Store
) -> AgentSettings:
    taken = {each.key for each in configured.hybrid_connections}
    more = tuple(
        configured.settings_for(
            each.connection_string,
            each.destination(setting="--target"),
            str(store.path),
        )
        for each in added
        if each.key not in taken
    )
    return replace(configured, hybrid_connections=(*configured.hybrid_connections, *more))


def _hidden(configured: AgentSettings, added: Sequence[AddedConnection]) -> list[AddedConnection]:
    taken = {each.key for each in configured.hybrid_connections}
    return [each for each in added if each.key in taken]


def _near(wanted: str, all_served: Sequence[HybridConnection]) -> str:
    """Name what was probably meant, or where to look."""
    names = {
        f"{namespace_name(each.settings.namespace)}/{each.settings.name}".lower(): (
            f"-ns {namespace_name(each.settings.namespace)} -n {each.settings.name}"
        )
        for each in all_served
    }
    if not names:
        return "nothing is served yet: hcm add"
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.75)
    if not near:
        return "'hcm list' shows what is here"
    return f"did you mean {' or '.join(names[each] for each in near)}?"
