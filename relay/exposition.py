"""The relay's numbers in Prometheus' format. Imported by the first scrape: see `relay.scraper`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
    from relay.scraper import Reading

ENTITY_LABELS = ("namespace", "EntityName")
RESULT_LABELS = (*ENTITY_LABELS, "OperationResult")


def write(reading: Reading, accept: str) -> tuple[bytes, str]:
    """Write the numbers of a relay and of its process down.

    Args:
        reading: Of the relay.
        accept: The ``Accept`` header: OpenMetrics for who asks for it, else the text format.

    Returns:
        The body, and its content type.
    """
    registry = CollectorRegistry()
    registry.register(_RelayCollector(reading))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def prometheus_name(azure_name: str) -> str:
    """Spell a name of Azure Monitor's as Prometheus can have it: without the hyphen."""
    return azure_name.replace("-", "_")


class _RelayCollector(Collector):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._zeros = dict.fromkeys(reading.served, 0)

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: nobody else registers such names."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Give every number."""
        now = self._reading
        yield self._gauges(
            "ActiveConnections", "Connections and HTTP requests now.", now.connections
        )
        yield self._gauges("ActiveListeners", "Listeners that are online now.", now.listeners)
        text = "Payload bytes, both directions, live ones included."
        yield self._counters("BytesTransferred", text, now.transferred)
        for side in Side:
            yield from self._connections(side)
        yield from self._process()

    def _connections(self, side: Side) -> Iterator[Metric]:
        totals: Counter[Labels] = Counter()
        by_kind: dict[Kind, dict[tuple[str, ...], int]] = {kind: {} for kind in Kind}
        for labels in self._reading.served:
            by_kind[Kind.SUCCESS][*labels, SUCCESS] = 0
        for attempt, count in self._reading.attempts.items():
            if attempt.side is side:
                totals[attempt.labels] += count
                by_kind[attempt.kind][*attempt.labels, attempt.result] = count
        who = f"{side.value}s that asked to connect"
        for kind, counts in by_kind.items():
            name = f"{side.value}Connections-{kind.value}"
            yield _counters(name, f"{who}: {kind.value}.", counts, RESULT_LABELS)
        yield self._counters(f"{side.value}Connections-TotalRequests", f"{who}, in all.", totals)
        gone = {
            labels: count
            for (whose, labels), count in self._reading.disconnects.items()
            if whose is side
        }
        yield self._counters(f"{side.value}Disconnects", f"{side.value}s that have gone.", gone)

    def _process(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "hybridge_rendezvous_waiting",
            "Senders that wait for a listener now.",
            value=self._reading.waiting,
        )
        yield GaugeMetricFamily(
            "hybridge_held_bytes",
            "Bytes held back for peers that do not take them.",
            value=self._reading.held_bytes,
        )
        lag = HistogramMetricFamily(
            "hybridge_event_loop_lag_seconds", "How late the event loop serves a timer."
        )
        buckets = [
            ("+Inf" if bound == float("inf") else str(bound), float(count))
            for bound, count in self._reading.lag
        ]
        lag.add_metric([], buckets, self._reading.lag_seconds)
        yield lag

    def _gauges(self, azure_name: str, text: str, values: Mapping[Labels, int]) -> Metric:
        family = GaugeMetricFamily(
            prometheus_name(azure_name), f"{azure_name}. {text}", labels=ENTITY_LABELS
        )
        for labels, value in (self._zeros | dict(values)).items():
            family.add_metric(labels, value)
        return family

    def _counters(self, azure_name: str, text: str, values: Mapping[Labels, int]) -> Metric:
        return _counters(azure_name, text, self._zeros | dict(values), ENTITY_LABELS)


def _counters(
    azure_name: str,
    text: str,
    values: Mapping[Labels, int] | Mapping[tuple[str, ...], int],
    names: Sequence[str],
) -> Metric:
    family = CounterMetricFamily(prometheus_name(azure_name), f"{azure_name}. {text}", labels=names)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
