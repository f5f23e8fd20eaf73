"""``GET /metrics``: what an operator watches, read when it is asked for (Prometheus text format).

Nothing is counted while events are delivered but what happens once a stream. The figures are those of this process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from quart import Blueprint, Response, current_app

from syndarix_rt.broker.protocol import project_of
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.otlp import Exports
from syndarix_rt.server.stream import Reason

__all__ = ["metrics"]

metrics = Blueprint("metrics", __name__)


@metrics.get("/metrics")
async def exposition() -> Response:
    """All figures."""
    registry = CollectorRegistry()
    registry.register(_Figures(current_app.extensions["syndarix_rt"], current_app.extensions["syndarix_rt_exports"]))
    response = Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
    response.headers["cache-control"] = "no-store"
    return response


class _Figures:
    def __init__(self, hub: Hub, exports: Exports) -> None:
        self._hub = hub
        self._exports = exports

    def collect(self) -> Iterator[Metric]:
        hub = self._hub
        streams = GaugeMetricFamily("syndarix_rt_streams", "Open event streams.", labels=["project"])
        open_streams = Counter(project_of(stream.channel_name) or "" for stream in hub.streams)
        for project, count in sorted(open_streams.items()):
            streams.add_metric([project], count)
        yield streams
        yield GaugeMetricFamily("syndarix_rt_sockets", "Open WebSockets.", value=hub.open_sockets)
        yield GaugeMetricFamily("syndarix_rt_draining", "1 while the server ends.", value=int(hub.draining))
        opened = CounterMetricFamily("syndarix_rt_streams_opened", "Event streams by how they began.", labels=["how"])
        for how in ("live", "resumed", "gap"):
            opened.add_metric([how], hub.opened[how])
        yield opened
        ended = CounterMetricFamily("syndarix_rt_streams_ended", "Event streams that have ended.", labels=["reason"])
        for reason in get_args(Reason):
            ended.add_metric([reason], hub.ended[reason])
        yield ended
        yield CounterMetricFamily(
            "syndarix_rt_writes_blocked", "Writes that a client did not take at once.", value=hub.counts["blocked"]
        )
        yield CounterMetricFamily(
            "syndarix_rt_pages_read", "Pages of the log read for streams behind memory.", value=hub.counts["pages"]
        )
        gaps = CounterMetricFamily("syndarix_rt_gaps", "Gaps declared in streams.", labels=["reason"])
        for reason in ("trimmed", "slow", "epoch"):
            gaps.add_metric([reason], hub.gaps[reason])
        yield gaps
        spans = CounterMetricFamily("syndarix_rt_otlp_spans", "Spans by what became of them.", labels=["outcome"])
        for outcome in ("mapped", "other", "late", "duplicate", "rejected"):
            spans.add_metric([outcome], self._exports.counts[outcome])
        yield spans
