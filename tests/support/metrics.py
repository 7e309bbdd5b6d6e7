"""Reads a relay's metrics as Prometheus does: by HTTP from the admin port, with its own parser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from hybridge.program import http_server
from hybridge.transport.listening import bound_address, open_sockets
from relay import admin
from relay.scraper import Scraper
from relay.service import Service
from tests.support.raw import Answer

Samples = dict[str, float]
"""Values by ``Name{hc1}`` or ``Name{hc1,Result}``, or the bare name where there are no labels."""


@dataclass(frozen=True)
class AdminPort:
    """The admin port of a relay under test."""

    port: int

    async def get(self, path: str = "/metrics", *, method: str = "GET", **headers: str) -> Answer:
        """Send one request as raw bytes."""
        lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
        fields = {"Host": "127.0.0.1", **headers}
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        status_line, *fields_lines = head.decode("latin-1").split("\r\n")
        _, status, reason = status_line.split(" ", 2)
        got = [(name, value.strip()) for name, _, value in (x.partition(":") for x in fields_lines)]
        return Answer(int(status), reason, got, body)

    async def samples(self) -> Samples:
        """Scrape, and give what is not about the process as a whole."""
        answer = await self.get()
        assert answer.status == 200
        return parse(answer.body.decode())


def parse(text: str) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "namespace"}
            shown = f"{{{','.join(labels.values())}}}" if labels else ""
            samples[f"{sample.name}{shown}"] = sample.value
    return samples


@asynccontextmanager
async def admin_port(service: Service) -> AsyncIterator[AdminPort]:
    """Serve a relay's admin port for the length of a block."""
    sockets = open_sockets("127.0.0.1", 0, flag="--admin-port")
    ended = asyncio.Event()
    scraper = Scraper(service.gateway, service.lag)
    app = admin.make_app(lambda: admin.Health.HEALTHY, scrape=scraper.scrape, bind_host="127.0.0.1")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            http_server.serve(app, sockets, until=ended.wait()), name="admin under test"
        )
        yield AdminPort(bound_address(sockets[0])[1])
        ended.set()
