"""Spans and metrics through OpenTelemetry, where its API is installed; else nothing at all.

A call is a span, its attempts are children of it, and each attempt tells the server which span
it is. With the API alone, no SDK, and no trace that came from elsewhere, a tracer gives the one
span that is none, at each call anew, as an SDK may come at any time: such a span is told to nobody.

Source:
    OpenTelemetry semantic conventions for HTTP clients, 1.27.
    W3C Trace Context.
"""

import functools
import importlib
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import attrs
import httpx

from flip_async._clock import Clock

OPENTELEMETRY: Final = ("opentelemetry.trace", "opentelemetry.metrics", "opentelemetry.propagate")
"""What is loaded of its API."""

SCOPE: Final = "flip_async"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.27.0"
# In seconds. The default bounds are made for milliseconds: every answer would be in the first.
BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# Not all that a propagator writes: baggage is the application's own, it may hold its users'
# names, and it must not go to a third party.
_SENT: Final = ("traceparent", "tracestate")


@attrs.frozen
class _Api:
    # Typed as Any: the package is there for some users only.
    trace: Any
    metrics: Any
    propagate: Any


@attrs.frozen
class Attempt:
    """One attempt of a call, while it runs."""

    _trace: Any
    _span: Any
    _attributes: dict[str, object]  # the metric's; what becomes of the attempt is added

    def answered(self, status: int) -> None:
        """An answer came."""
        self._set("http.response.status_code", status)
        if status >= 400:
            self.failed(str(status))

    def failed(self, reason: str) -> None:
        """None came, or one that is an error.

        Args:
            reason: Up to the first colon it is the kind of error; the text behind that is dropped.
        """
        self._set("error.type", reason.partition(":")[0])
        self._span.set_status(self._trace.StatusCode.ERROR)

    def _set(self, name: str, value: object) -> None:
        self._attributes[name] = value
        self._span.set_attribute(name, value)


class Tracing:
    """Makes a span for each call, and a span and a duration for each attempt.

    A template is the path with its placeholders: an id must be in no name and no attribute.
    """

    def __init__(self, api: _Api, api_url: str, version: str, clock: Clock) -> None:
        self._trace: Final = api.trace
        self._inject: Final = api.propagate.inject
        self._clock: Final = clock
        self._server: Final = _server(httpx.URL(api_url))
        self._tracer: Final = api.trace.get_tracer(SCOPE, version, schema_url=SCHEMA_URL)
        meter = api.metrics.get_meter(SCOPE, version, schema_url=SCHEMA_URL)
        self._duration: Final = _duration_histogram(meter)

    def call(self, method: str, template: str) -> AbstractContextManager[object]:
        """Watch a call, over all its attempts.

        Args:
            method: Of HTTP.
            template: The path with its placeholders.

        Returns:
            A context: how the call ends is seen by the exception that leaves it.
        """
        attributes = self._attributes(method, template)
        span = self._start(self._trace.SpanKind.INTERNAL, attributes)
        return nullcontext() if self._is_none(span) else self._watch(span)

    @contextmanager
    def _watch(self, span: Any) -> Generator[None, None, None]:  # noqa: ANN401
        with self._as_current(span):
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(self._trace.StatusCode.ERROR)
                raise

    @contextmanager
    def attempt(
        self, method: str, template: str, *, resent: int, headers: httpx.Headers
    ) -> Generator[Attempt, None, None]:
        """Watch an attempt.

        Args:
            method: Of HTTP.
            template: The path with its placeholders.
            resent: How many attempts the call has had before.
            headers: Of the request; they are told the span.

        Yields:
            What to tell the outcome.
        """
        attributes = self._attributes(method, template)
        more = {"http.request.resend_count": resent} if resent else {}
        span = self._start(self._trace.SpanKind.CLIENT, attributes | more)
        with nullcontext() if self._is_none(span) else self._as_current(span):
            # Older APIs give none within a trace from elsewhere too, where there is no SDK.
            if not self._is_none(self._trace.get_current_span()):
                self._propagate(headers)
            watched = Attempt(self._trace, span, attributes)
            began_s = self._clock.monotonic()
            try:
                yield watched
            except BaseException as error:  # a cancelled attempt too
                watched.failed(type(error).__qualname__)
                raise
            finally:
                self._duration.record(self._clock.monotonic() - began_s, attributes)

    def _attributes(self, method: str, template: str) -> dict[str, object]:
        return {"http.request.method": method, "url.template": template, **self._server}

    def _start(self, kind: Any, attributes: dict[str, object]) -> Any:  # noqa: ANN401
        return self._tracer.start_span(
            f"{attributes['http.request.method']} {attributes['url.template']}",
            kind=kind,
            attributes=attributes,
        )

    def _is_none(self, span: Any) -> bool:  # noqa: ANN401
        return span is self._trace.INVALID_SPAN

    def _as_current(self, span: Any) -> Any:  # noqa: ANN401
        # The text of an exception is not for every reader of a trace.
        return self._trace.use_span(
            span, end_on_exit=True, record_exception=False, set_status_on_exception=False
        )

    def _propagate(self, headers: httpx.Headers) -> None:
        carrier: dict[str, str] = {}
        self._inject(carrier)
        for name in _SENT:
            if name in carrier:
                headers[name] = carrier[name]


def make_tracing(api_url: str, version: str, clock: Clock) -> Tracing | None:
    """What a client's calls are watched by; `None` where OpenTelemetry's API is not installed."""
    api = load_api()
    return None if api is None else Tracing(api, api_url, version, clock)


@functools.cache  # Python remembers no import that failed: each client would search again.
def load_api() -> _Api | None:
    """OpenTelemetry's API; `None` where it is not installed."""
    try:
        trace, metrics, propagate = (importlib.import_module(name) for name in OPENTELEMETRY)
    except (ImportError, ValueError):  # OTEL_PROPAGATORS may name what is not installed
        # `opentelemetry` itself proves nothing: it is a namespace that many packages share.
        return None
    return _Api(trace=trace, metrics=metrics, propagate=propagate)


def _server(url: httpx.URL) -> dict[str, object]:
    default_port = 443 if url.scheme == "https" else 80
    return {
        "server.address": url.host,
        "server.port": url.port or default_port,
        "url.scheme": url.scheme,
    }


def _duration_histogram(meter: Any) -> Any:  # noqa: ANN401
    create = functools.partial(
        meter.create_histogram,
        "http.client.request.duration",
        unit="s",
        description="Duration of HTTP client requests.",
    )
    try:
        return create(explicit_bucket_boundaries_advisory=BOUNDS_S)
    except TypeError:
        # An API before 1.30, which the application brought: our extra was not asked for.
        return create()
