"""Spans and metrics through OpenTelemetry, where its API is installed; else nothing at all.

Source:
    OpenTelemetry semantic conventions for HTTP clients, 1.27 and later.
"""

import importlib
import importlib.util
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Protocol, Self

import httpx

from flip_async._clock import SystemClock

_clock: Final = SystemClock()
SCOPE: Final = "flip_async"


class Attempt(Protocol):
    """One attempt of a call, while it runs."""

    def answered(self, status: int) -> None:
        """An answer came."""
        ...

    def failed(self, reason: str) -> None:
        """None came."""
        ...


class Tracing(Protocol):
    """Sees every attempt."""

    def attempt(
        self, method: str, template: str, *, resent: int
    ) -> AbstractContextManager[Attempt]:
        """Watch an attempt; `template` is the path with its placeholders, never an id."""
        ...


class NoAttempt:
    """Sees nothing."""

    def answered(self, status: int) -> None:
        """Nothing."""

    def failed(self, reason: str) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class NoTracing:
    """Where OpenTelemetry is not installed."""

    _attempt: Final = NoAttempt()

    def attempt(self, method: str, template: str, *, resent: int) -> NoAttempt:
        """Watch nothing."""
        return self._attempt


class OpenTelemetryTracing:
    """Makes a client span and a duration for each attempt."""

    def __init__(self, api_url: str, version: str) -> None:
        # Typed as Any: the package is there for some users only.
        self._trace: Final[Any] = importlib.import_module("opentelemetry.trace")
        metrics: Any = importlib.import_module("opentelemetry.metrics")
        url = httpx.URL(api_url)
        default_port = 443 if url.scheme == "https" else 80
        self._server: Final = {
            "server.address": url.host,
            "server.port": url.port or default_port,
            "url.scheme": url.scheme,
        }
        self._tracer: Final[Any] = self._trace.get_tracer(SCOPE, version)
        self._duration: Final[Any] = metrics.get_meter(SCOPE, version).create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
        )

    def attempt(self, method: str, template: str, *, resent: int) -> "_OpenTelemetryAttempt":
        """Watch an attempt."""
        attributes: dict[str, object] = {
            "http.request.method": method,
            "url.template": template,
            **self._server,
        }
        more = {"http.request.resend_count": resent} if resent else {}
        span = self._tracer.start_as_current_span(
            f"{method} {template}",
            kind=self._trace.SpanKind.CLIENT,
            attributes=attributes | more,
        )
        return _OpenTelemetryAttempt(self._trace, span, self._duration, attributes)


class _OpenTelemetryAttempt:
    def __init__(self, trace: Any, span: Any, duration: Any, attributes: dict[str, object]) -> None:
        self._trace: Final = trace
        self._scope: Final = span
        self._duration: Final = duration
        self._attributes: Final = attributes

    def __enter__(self) -> Self:
        self._span = self._scope.__enter__()
        self._began = _clock.monotonic()
        return self

    def answered(self, status: int) -> None:
        self._set("http.response.status_code", status)
        if status >= 400:
            self._fail(str(status))

    def failed(self, reason: str) -> None:
        self._fail(reason.partition(":")[0])

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is not None:
            self._fail(exc_type.__qualname__)
        self._duration.record(_clock.monotonic() - self._began, self._attributes)
        # Not the exception itself: its text is not for every reader of a trace.
        self._scope.__exit__(None, None, None)

    def _set(self, name: str, value: object) -> None:
        self._attributes[name] = value
        self._span.set_attribute(name, value)

    def _fail(self, kind: str) -> None:
        self._set("error.type", kind)
        self._span.set_status(self._trace.StatusCode.ERROR)


def make_tracing(api_url: str, version: str) -> Tracing:
    """What a client's attempts are watched by."""
    if importlib.util.find_spec("opentelemetry") is None:
        return NoTracing()
    return OpenTelemetryTracing(api_url, version)
