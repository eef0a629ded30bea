"""Spans and metrics, where OpenTelemetry is installed [R8]."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flip_async import SandboxClient, errors
from tests.support import ManualClock

KEY = "fl_your_api_key"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    yield reader
    provider.shutdown()


def answers(*given: httpx.Response | Exception) -> httpx.MockTransport:
    left = iter(given)

    def answer(request: httpx.Request) -> httpx.Response:
        found = next(left)
        if isinstance(found, Exception):
            raise found
        return found

    return httpx.MockTransport(answer)


async def test_each_attempt_is_a_client_span(
    spans: InMemorySpanExporter, clock: ManualClock
) -> None:
    """After the HTTP semantic conventions; an id and a secret are in none."""
    transport = answers(httpx.ConnectError("no"), httpx.Response(503), httpx.Response(404))
    async with SandboxClient(api_key=KEY, transport=transport, clock=clock) as flip:
        call = asyncio.create_task(flip.site("hh-1042").get(token="client"))
        await clock.pass_time(5)
        with pytest.raises(errors.NotFoundError):
            await call

    found = spans.get_finished_spans()
    common = {
        "http.request.method": "GET",
        "url.template": "/v1/site/{siteId}",
        "server.address": "api-sandbox.flip.energy",
        "server.port": 443,
        "url.scheme": "https",
    }
    assert [dict(span.attributes or {}) for span in found] == [
        common | {"error.type": "ConnectError"},
        common
        | {"http.request.resend_count": 1, "http.response.status_code": 503, "error.type": "503"},
        common
        | {"http.request.resend_count": 2, "http.response.status_code": 404, "error.type": "404"},
    ]
    assert {span.name for span in found} == {"GET /v1/site/{siteId}"}
    assert {span.kind for span in found} == {trace.SpanKind.CLIENT}
    assert not any(span.status.is_ok for span in found)
    shown = "".join(span.to_json() for span in found)
    assert "hh-1042" not in shown
    assert KEY not in shown


async def test_an_attempt_that_is_cut_off_says_so(spans: InMemorySpanExporter) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with SandboxClient(api_key=never, transport=answers()) as flip:
        with pytest.raises(errors.DeadlineError):
            await flip.sites.list(deadline_s=0.02)

    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "CancelledError"
    assert not span.events


async def test_the_text_of_an_error_is_in_no_span(spans: InMemorySpanExporter) -> None:
    """Its kind is: a trace has other readers than a log."""

    def broken() -> str:
        raise LookupError("where the secrets are kept")

    async with SandboxClient(api_key=broken, transport=answers()) as flip:
        with pytest.raises(errors.TokenUnavailableError):
            await flip.sites.list()

    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["error.type"] == "TokenUnavailableError"
    assert not span.events
    assert "secrets" not in span.to_json()


async def test_each_attempt_has_a_duration(reader: InMemoryMetricReader) -> None:
    async with SandboxClient(api_key=KEY, transport=answers(httpx.Response(200, json=[]))) as flip:
        await flip.sites.list()

    data: Any = reader.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (metric.name, metric.unit) == ("http.client.request.duration", "s")
    assert point.count == 1
    assert point.attributes["http.response.status_code"] == 200


def test_without_opentelemetry_nothing_is_traced_and_nothing_fails() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
import importlib.util
importlib.util.find_spec = lambda name: None
import asyncio, httpx
from flip_async import SandboxClient
async def main():
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=[]))
    async with SandboxClient(api_key="fl_your_api_key", transport=transport) as flip:
        print(await flip.sites.list(), type(flip._session.core.tracing).__name__)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "[] NoTracing", done.stderr
