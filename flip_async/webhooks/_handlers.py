"""Which function takes which event."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

from flip_async._aio._callbacks import run_user_code
from flip_async._checks import check_async, check_kind, name_of
from flip_async.errors import ConfigurationError
from flip_async.webhooks._events import (
    KINDS,
    UNKNOWN,
    AnyEvent,
    CommandEvent,
    CommandEventType,
    EnrollmentEvent,
    EnrollmentEventType,
    GridEvent,
    GridEventType,
    SettingsEvent,
    SettingsEventType,
    UnknownEvent,
)

logger: Final = logging.getLogger("flip_async.webhooks")

E = TypeVar("E")
Handler = Callable[[E], Awaitable[None]]
GridHandler = TypeVar("GridHandler", bound=Handler[GridEvent])
CommandHandler = TypeVar("CommandHandler", bound=Handler[CommandEvent])
EnrollmentHandler = TypeVar("EnrollmentHandler", bound=Handler[EnrollmentEvent])
SettingsHandler = TypeVar("SettingsHandler", bound=Handler[SettingsEvent])
UnknownHandler = TypeVar("UnknownHandler", bound=Handler[UnknownEvent])


class Handlers:
    """A registry: one function for each event type.

    ::

        handlers = Handlers()

        @handlers.on("enrollment.updated")
        async def enrolled(event: EnrollmentEvent) -> None: ...

    A function that returns has handled the event; whatever it raises, the event comes again.
    It may come again after a success too, around a crash: what a function does, it should be
    able to do twice. An event that nobody is registered for is passed over.

    Each module may have a registry of its own; `Handlers(homes.handlers, grid.handlers)` is one
    of all of them, of what they are given later too. Registering on it leaves them as they are.

    Args:
        *others: Registries whose functions count here.

    Raises:
        ConfigurationError: Two of them have a function for the same type.
        InvalidArgumentError: One is no registry.
    """

    def __init__(self, *others: "Handlers") -> None:
        for other in others:
            check_kind(other, Handlers, field="others")
        self._others: Final = others
        self._own: Final[dict[str, Handler[Any]]] = {}  # by event type, `UNKNOWN` among them
        self._all()  # which finds what cannot stand together

    @overload
    def on(self, event_type: GridEventType) -> Callable[[GridHandler], GridHandler]: ...
    @overload
    def on(self, event_type: CommandEventType) -> Callable[[CommandHandler], CommandHandler]: ...
    @overload
    def on(
        self, event_type: EnrollmentEventType
    ) -> Callable[[EnrollmentHandler], EnrollmentHandler]: ...
    @overload
    def on(self, event_type: SettingsEventType) -> Callable[[SettingsHandler], SettingsHandler]: ...
    def on(self, event_type: str) -> Callable[[Any], Any]:
        """Register the function that takes events of a type.

        Args:
            event_type: One of those that Flip documents, such as `command.created`; for
                others there is `on_unknown`.

        Returns:
            A decorator for an `async def` with one argument, the event.

        Raises:
            ConfigurationError: There is no such type, or it is taken.
            InvalidArgumentError: What is decorated is no `async def`.
        """
        if event_type not in KINDS:
            raise ConfigurationError(
                f"{event_type!r} is no event type that Flip documents ({', '.join(KINDS)}): "
                "on_unknown takes all others"
            )

        def register(function: Handler[Any]) -> Handler[Any]:
            self._register(event_type, function, f"the handler of {event_type}")
            return function

        return register

    def on_unknown(self, function: UnknownHandler) -> UnknownHandler:
        """Register the function that takes events of a type that is newer than this version.

        Args:
            function: An `async def` with one argument, the event.

        Returns:
            The function.

        Raises:
            ConfigurationError: There is one.
            InvalidArgumentError: This one is no `async def`.
        """
        self._register(UNKNOWN, function, "the handler of unknown events")
        return function

    def _register(self, event_type: str, function: Handler[Any], field: str) -> None:
        check_async(function, field=field)
        taken = self._all().get(event_type)
        if taken is not None:
            raise ConfigurationError(
                f"{_named(event_type)} a handler, {name_of(taken)}: call {name_of(function)} from "
                "there"
            )
        self._own[event_type] = function

    def _all(self) -> dict[str, Handler[Any]]:
        found: dict[str, Handler[Any]] = dict(self._own)
        for other in self._others:
            for event_type, function in other._all().items():
                taken = found.setdefault(event_type, function)
                if taken != function:  # the same one may come by two ways
                    raise ConfigurationError(
                        f"{_named(event_type)} two handlers, {name_of(taken)} and "
                        f"{name_of(function)}: keep one of them, and call the other from there"
                    )
        return found

    @property
    def event_types(self) -> frozenset[str]:
        """The types that have a function; `"*"` is among them where there is `on_unknown`.

        Raises:
            ConfigurationError: A type has two, in registries that were put together.
        """
        return frozenset(self._all())

    async def dispatch(self, event: AnyEvent) -> None:
        """Give an event to its function, and wait for that.

        Args:
            event: What `verify` gave.

        Raises:
            Exception: Whatever the function raises; where it lets a `CancelledError` out and
                nobody cancels, one that says so.
        """
        event_type = UNKNOWN if isinstance(event, UnknownEvent) else event.event_type
        handler = self._find(event_type)
        if handler is None:
            logger.debug("%s %s: no handler", event.event_type, event.webhook_id)
            return
        await run_user_code(handler, event)

    def _find(self, event_type: str) -> Handler[Any] | None:
        found = self._own.get(event_type)
        for other in self._others:
            found = found or other._find(event_type)
        return found

    def __repr__(self) -> str:
        return f"<Handlers {', '.join(KINDS.keys() & self._all()) or 'none'}>"


def _named(event_type: str) -> str:
    return "unknown events have" if event_type == UNKNOWN else f"{event_type} has"
