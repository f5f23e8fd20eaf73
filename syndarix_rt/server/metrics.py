"""``GET /metrics``: what an operator watches, of all workers together (Prometheus text format); and what went wrong.

The figures are made when they are asked for, of what is counted anyway.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import structlog
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from quart import Blueprint, Quart, Response, current_app, g, request

from syndarix_rt.server.figures import collected, merged, others
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.otlp import Exports

__all__ = ["count_publishing", "metrics"]

metrics = Blueprint("metrics", __name__)

PUBLISHING = ("projects.publish", "projects.publish_run", "projects.answer", "otlp.traces", "github.deliver")
"""Routes by which events come in."""

_log = structlog.get_logger("syndarix_rt.server")


@metrics.get("/metrics")
async def exposition() -> Response:
    """All figures, of all workers."""
    hub: Hub = current_app.extensions["syndarix_rt"]
    exports: Exports = current_app.extensions["syndarix_rt_exports"]
    registry = CollectorRegistry()
    registry.register(_Figures(merged(collected(hub, exports), others(hub.settings.figures_dir))))
    response = Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
    response.headers["cache-control"] = "no-store"
    return response


class _Figures(Collector):
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


def count_publishing(app: Quart, hub: Hub) -> None:
    """Count what is published, and log what is refused."""

    @app.after_request
    async def _count(response: Response) -> Response:
        if request.endpoint in PUBLISHING:
            status = response.status_code
            hub.tally.publishes[status] += 1
            if status >= 400:  # noqa: PLR2004 - errors
                _log.warning(
                    "not published",
                    path=request.path[:200],
                    client=request.remote_addr,
                    status=status,
                    reason=await _reason(response),
                )
        return response


async def _reason(response: Response) -> str:
    if "refused" in g:
        return str(g.refused)[:500]
    try:
        document = msgspec.json.decode(await response.get_data(as_text=False))
        return str(document.get("detail") or "")[:500]
    except (msgspec.DecodeError, AttributeError):
        return ""
