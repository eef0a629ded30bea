"""Spans and metrics, where OpenTelemetry is installed [R8]."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import baggage, context, metrics, propagate, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flip_async import SandboxClient, errors
from tests.support import ManualClock

KEY = "fl_your_api_key"
SCHEMA_URL = "https://opentelemetry.io/schemas/1.27.0"
LIST_SITES = """
import asyncio, httpx
from flip_async import SandboxClient

async def main():
    def answer(request):
        assert "traceparent" not in request.headers
        return httpx.Response(200, json=[])

    transport = httpx.MockTransport(answer)
    async with SandboxClient(api_key="fl_your_api_key", transport=transport) as flip:
        print(await flip.sites.list())

asyncio.run(main())
"""

SDK_COMES_LATE = """
import asyncio, httpx
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from flip_async import SandboxClient

async def main():
    told = []

    def answer(request):
        told.append("traceparent" in request.headers)
        return httpx.Response(200, json=[])

    transport = httpx.MockTransport(answer)
    async with SandboxClient(api_key="fl_your_api_key", transport=transport) as flip:
        await flip.sites.list()
        spans, reader, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
        await flip.sites.list()
    assert told == [False, True]
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    print(len(spans.get_finished_spans()), point.count)

asyncio.run(main())
"""


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


def attempts(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.kind is trace.SpanKind.CLIENT]


def call_of(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = (s for s in spans.get_finished_spans() if s.kind is trace.SpanKind.INTERNAL)
    return span


def traceparent(span: ReadableSpan) -> str:
    found = span.context
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def run(code: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=plain
    )


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

    found = attempts(spans)
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
    assert not any(span.status.is_ok for span in found)
    shown = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "hh-1042" not in shown
    assert KEY not in shown


async def test_a_call_is_a_span_and_its_attempts_are_children(
    spans: InMemorySpanExporter, clock: ManualClock
) -> None:
    transport = answers(httpx.Response(503), httpx.Response(404))
    async with SandboxClient(api_key=KEY, transport=transport, clock=clock) as flip:
        flip_call = asyncio.create_task(flip.site("hh-1042").get(token="client"))
        await clock.pass_time(5)
        with pytest.raises(errors.NotFoundError):
            await flip_call

    call = call_of(spans)
    assert call.name == "GET /v1/site/{siteId}"
    assert dict(call.attributes or {}) == {
        "http.request.method": "GET",
        "url.template": "/v1/site/{siteId}",
        "server.address": "api-sandbox.flip.energy",
        "server.port": 443,
        "url.scheme": "https",
        "error.type": "NotFoundError",
    }
    assert call.status.status_code is trace.StatusCode.ERROR
    assert call.status.description is None
    children = attempts(spans)
    assert len(children) == 2
    assert {span.context.trace_id for span in children} == {call.context.trace_id}
    assert {span.parent.span_id for span in children if span.parent} == {call.context.span_id}


async def test_a_call_that_needs_a_second_attempt_is_no_error(
    spans: InMemorySpanExporter, clock: ManualClock
) -> None:
    transport = answers(httpx.Response(503), httpx.Response(200, json=[]))
    async with SandboxClient(api_key=KEY, transport=transport, clock=clock) as flip:
        call = asyncio.ensure_future(flip.sites.list())
        await clock.pass_time(5)
        await call

    first, second = attempts(spans)
    assert first.status.status_code is trace.StatusCode.ERROR
    assert second.status.status_code is trace.StatusCode.UNSET
    assert call_of(spans).status.status_code is trace.StatusCode.UNSET
    assert "error.type" not in (call_of(spans).attributes or {})


async def test_each_attempt_tells_the_server_its_own_span(
    spans: InMemorySpanExporter, clock: ManualClock
) -> None:
    """After W3C Trace Context; baggage is the application's own and stays here."""
    sent: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(httpx.Headers(request.headers))
        return httpx.Response(503 if len(sent) == 1 else 200, json=[])

    transport = httpx.MockTransport(answer)
    ours = context.attach(baggage.set_baggage("customer", "Ada"))
    everything: dict[str, str] = {}
    propagate.inject(everything)
    try:
        async with SandboxClient(api_key=KEY, transport=transport, clock=clock) as flip:
            call = asyncio.ensure_future(flip.sites.list())
            await clock.pass_time(5)
            await call
    finally:
        context.detach(ours)

    assert [headers["traceparent"] for headers in sent] == [
        traceparent(span) for span in attempts(spans)
    ]
    assert everything == {"baggage": "customer=Ada"}
    assert not any("baggage" in headers for headers in sent)


async def test_a_call_is_part_of_the_trace_that_it_is_made_in(
    spans: InMemorySpanExporter,
) -> None:
    """The vendors' part of the trace goes on to the server too."""
    sent: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(200, json=[])

    outer = trace.SpanContext(
        trace_id=0x0AF7651916CD43DD8448EB211C80319C,
        span_id=0xB7AD6B7169203331,
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        trace_state=trace.TraceState([("vendor", "value")]),
    )
    with trace.use_span(trace.NonRecordingSpan(outer)):
        async with SandboxClient(api_key=KEY, transport=httpx.MockTransport(answer)) as flip:
            await flip.sites.list()

    call = call_of(spans)
    assert call.context.trace_id == outer.trace_id
    assert call.parent is not None
    assert call.parent.span_id == outer.span_id
    assert [headers["tracestate"] for headers in sent] == ["vendor=value"]


async def test_an_attempt_that_is_cut_off_says_so(spans: InMemorySpanExporter) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with SandboxClient(api_key=never, transport=answers()) as flip:
        with pytest.raises(errors.DeadlineError):
            await flip.sites.list(deadline_s=0.02)

    (attempt,) = attempts(spans)
    assert (attempt.attributes or {})["error.type"] == "CancelledError"
    assert not any(span.events for span in spans.get_finished_spans())


async def test_the_text_of_an_error_is_in_no_span(spans: InMemorySpanExporter) -> None:
    """Its kind is: a trace has other readers than a log."""

    def broken() -> str:
        raise LookupError("where the secrets are kept")

    async with SandboxClient(api_key=broken, transport=answers()) as flip:
        with pytest.raises(errors.TokenUnavailableError):
            await flip.sites.list()

    found = spans.get_finished_spans()
    assert [(span.attributes or {})["error.type"] for span in found] == [
        "TokenUnavailableError",
        "TokenUnavailableError",
    ]
    assert not any(span.events for span in found)
    assert "secrets" not in "".join(span.to_json() for span in found)


async def test_each_attempt_has_a_duration(
    reader: InMemoryMetricReader, clock: ManualClock
) -> None:
    """By the client's clock, in buckets made for seconds."""

    async def answer(_: httpx.Request) -> httpx.Response:
        await clock.sleep(2)
        return httpx.Response(200, json=[])

    transport = httpx.MockTransport(answer)
    async with SandboxClient(api_key=KEY, transport=transport, clock=clock) as flip:
        call = asyncio.ensure_future(flip.sites.list())
        await clock.pass_time(2)
        await call

    data: Any = reader.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (metric.name, metric.unit) == ("http.client.request.duration", "s")
    assert (point.count, point.sum) == (1, 2)
    assert point.explicit_bounds == (
        *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
        *(1, 2.5, 5, 7.5, 10),
    )
    assert dict(point.attributes) == {
        "http.request.method": "GET",
        "url.template": "/v1/sites",
        "server.address": "api-sandbox.flip.energy",
        "server.port": 443,
        "url.scheme": "https",
        "http.response.status_code": 200,
    }


async def test_spans_and_metrics_name_their_schema(
    spans: InMemorySpanExporter, reader: InMemoryMetricReader
) -> None:
    async with SandboxClient(api_key=KEY, transport=answers(httpx.Response(200, json=[]))) as flip:
        await flip.sites.list()

    scopes = {span.instrumentation_scope for span in spans.get_finished_spans()}
    assert [(scope.name, scope.schema_url) for scope in scopes if scope] == [
        ("flip_async", SCHEMA_URL)
    ]
    data: Any = reader.get_metrics_data()
    (measured,) = data.resource_metrics[0].scope_metrics
    assert (measured.scope.name, measured.scope.schema_url) == ("flip_async", SCHEMA_URL)


async def test_an_older_api_without_bounds_is_good_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The application's own OpenTelemetry may be older than what our extra asks for."""

    class OldMeter(metrics.NoOpMeter):
        def create_histogram(  # type: ignore[override]
            self, name: str, unit: str = "", description: str = ""
        ) -> metrics.Histogram:
            return metrics.NoOpHistogram(name, unit, description)

    monkeypatch.setattr(metrics, "get_meter", lambda name, *_, **__: OldMeter(name))
    async with SandboxClient(api_key=KEY, transport=answers(httpx.Response(200, json=[]))) as flip:
        assert await flip.sites.list() == []


async def test_a_trace_from_elsewhere_goes_on_with_the_api_alone() -> None:
    """A gateway's `traceparent`, say, in a program that records nothing itself."""
    sent: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return httpx.Response(200, json=[])

    outer = trace.SpanContext(
        trace_id=0x0AF7651916CD43DD8448EB211C80319C,
        span_id=0xB7AD6B7169203331,
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
    async with SandboxClient(api_key=KEY, transport=httpx.MockTransport(answer)) as flip:
        with trace.use_span(trace.NonRecordingSpan(outer)):
            await flip.sites.list()

    assert [headers["traceparent"] for headers in sent] == [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    ]


async def test_attempts_are_measured_where_nothing_is_traced(
    reader: InMemoryMetricReader,
) -> None:
    """Metrics need no provider of spans."""
    async with SandboxClient(api_key=KEY, transport=answers(httpx.Response(404))) as flip:
        with pytest.raises(errors.NotFoundError):
            await flip.sites.list()

    data: Any = reader.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (point.count, point.attributes["http.response.status_code"]) == (1, 404)
    assert point.attributes["error.type"] == "404"


def test_an_sdk_that_comes_after_the_client_is_used() -> None:
    done = run(SDK_COMES_LATE)

    assert done.stdout.split() == ["2", "1"], done.stderr


def test_without_opentelemetry_nothing_is_traced_and_nothing_fails() -> None:
    hide = 'import sys; sys.modules["opentelemetry"] = None'

    done = run(f"{hide}\n{LIST_SITES}")

    assert done.stdout.strip() == "[]", done.stderr


def test_a_namespace_without_the_api_is_no_opentelemetry(tmp_path: Path) -> None:
    """Many packages share the name, and any of them may be there alone."""
    (tmp_path / "opentelemetry" / "semconv").mkdir(parents=True)
    only_this = (
        f"import opentelemetry; opentelemetry.__path__ = [{str(tmp_path / 'opentelemetry')!r}]"
    )

    done = run(f"{only_this}\nimport opentelemetry.semconv\n{LIST_SITES}")

    assert done.stdout.strip() == "[]", done.stderr


def test_with_the_api_alone_nothing_is_sent_and_nothing_fails() -> None:
    """There is no SDK, hence no span that a server could be told."""
    done = run(LIST_SITES)

    assert done.stdout.strip() == "[]", done.stderr
