"""The relay's numbers in Prometheus' format.

Imported by the first scrape: the library takes some 30 ms to import, and a relay that nobody
scrapes does without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from relay.core.tally import SUCCESS, Kind, Labels, Side

if TYPE_CHECKING:
    from relay.gateway import Gateway
    from relay.loop_lag import LoopLag

ENTITY_LABELS = ("namespace", "EntityName")
RESULT_LABELS = (*ENTITY_LABELS, "OperationResult")


class Exposition:
    """Everything that one relay shows. Other relays of the process have their own.

    Args:
        gateway: Counts, and what is live.
        lag: Of the event loop that the gateway runs in.
    """

    def __init__(self, gateway: Gateway, lag: LoopLag) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_RelayCollector(gateway, lag))
        ProcessCollector(registry=self._registry)

    def write(self, accept: str) -> tuple[bytes, str]:
        """Write all of it down, as it is now.

        Args:
            accept: The ``Accept`` header: OpenMetrics for who asks for it, else the text format.

        Returns:
            The body, and its content type.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _RelayCollector(Collector):
    def __init__(self, gateway: Gateway, lag: LoopLag) -> None:
        self._gateway = gateway
        self._tally = gateway.tally
        self._lag = lag

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: nobody else registers here."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Give every number as it is now."""
        yield from self._live()
        yield from self._connections()
        yield from self._process()

    def _live(self) -> Iterator[Metric]:
        served = [labels for _, labels in self._tally.configured]
        connections: Counter[Labels] = Counter(dict.fromkeys(served, 0))
        transferred = Counter(dict.fromkeys(served, 0))
        transferred.update(self._tally.bytes_transferred)
        for entity, payload_bytes in self._gateway.websockets.live():
            labels = self._tally.labels(entity)
            connections[labels] += 1
            transferred[labels] += payload_bytes
        listeners: Counter[Labels] = Counter(dict.fromkeys(served, 0))
        for entity in self._gateway.listeners.entities():
            listeners[self._tally.labels(entity)] += self._gateway.listeners.count(entity)
        yield _gauges("ActiveConnections", "Connections that are joined now.", connections)
        yield _gauges("ActiveListeners", "Listeners that are online now.", listeners)
        yield _counters(
            "BytesTransferred", "Payload bytes, both directions, live ones included.", transferred
        )

    def _connections(self) -> Iterator[Metric]:
        served = [labels for _, labels in self._tally.configured]
        for side in Side:
            totals = Counter(dict.fromkeys(served, 0))
            by_kind = {kind: Counter[tuple[str, ...]]() for kind in Kind}
            for labels in served:
                by_kind[Kind.SUCCESS][*labels, SUCCESS] = 0
            for attempt, count in self._tally.attempts.items():
                if attempt.side is side:
                    totals[attempt.labels] += count
                    by_kind[attempt.kind][*attempt.labels, attempt.result] += count
            who = f"{side.value}s that asked to connect"
            for kind, counts in by_kind.items():
                name = f"{side.value}Connections-{kind.value}"
                yield _counters(name, f"{who}: {kind.value}.", counts, RESULT_LABELS)
            name = f"{side.value}Connections-TotalRequests"
            yield _counters(name, f"{who}, in all.", totals)
            gone = Counter(dict.fromkeys(served, 0))
            for (whose, labels), count in self._tally.disconnects.items():
                if whose is side:
                    gone[labels] += count
            yield _counters(f"{side.value}Disconnects", f"{side.value}s that have gone.", gone)

    def _process(self) -> Iterator[Metric]:
        websockets = self._gateway.websockets
        yield GaugeMetricFamily(
            "hybridge_rendezvous_waiting",
            "Senders that wait for a listener now.",
            value=websockets.waiting_count,
        )
        yield GaugeMetricFamily(
            "hybridge_held_bytes",
            "Bytes held back for peers that do not take them.",
            value=websockets.held_bytes,
        )
        lag = HistogramMetricFamily(
            "hybridge_event_loop_lag_seconds", "How late the event loop serves a timer."
        )
        buckets = [
            ("+Inf" if bound == float("inf") else str(bound), float(count))
            for bound, count in self._lag.cumulative
        ]
        lag.add_metric([], buckets, self._lag.total_seconds)
        yield lag


def prometheus_name(azure_name: str) -> str:
    """Spell a name of Azure Monitor's as Prometheus can have it: without the hyphen."""
    return azure_name.replace("-", "_")


def _gauges(azure_name: str, text: str, values: Counter[Labels]) -> Metric:
    family = GaugeMetricFamily(
        prometheus_name(azure_name), f"{azure_name}. {text}", labels=ENTITY_LABELS
    )
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _counters(
    azure_name: str,
    text: str,
    values: Counter[Labels] | Counter[tuple[str, ...]],
    names: tuple[str, ...] = ENTITY_LABELS,
) -> Metric:
    family = CounterMetricFamily(prometheus_name(azure_name), f"{azure_name}. {text}", labels=names)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
