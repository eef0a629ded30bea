"""Which function takes which event."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast, overload

from flip_async._aio._callbacks import run_user_code
from flip_async._checks import check_async, check_kind, name_of
from flip_async.errors import ConfigurationError
from flip_async.webhooks._events import (
    KINDS,
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

    `Handlers(meters.handlers, chargers.handlers)` is a new registry with all that those have,
    each of which a module may fill for itself.

    Args:
        *others: Registries whose functions this one has too, as they are now.

    Raises:
        ConfigurationError: Two of them have a function for the same events.
    """

    def __init__(self, *others: "Handlers") -> None:
        self._by_type: Final[dict[str, Handler[Any]]] = {}
        self._unknown: Handler[UnknownEvent] | None = None
        self._winding_down: Final[list[Callable[[], None]]] = []
        for other in others:
            check_kind(other, Handlers, field="others")
            self._add_all_of(other)

    def _add_all_of(self, other: "Handlers") -> None:
        for event_type, function in other._by_type.items():
            self._add(event_type, function)
        if other._unknown is not None:
            self.on_unknown(other._unknown)
        self._winding_down.extend(other._winding_down)

    def _add(self, event_type: str, function: Handler[Any]) -> None:
        taken = self._by_type.get(event_type)
        if taken is not None:
            raise ConfigurationError(
                f"{event_type} has a handler, {name_of(taken)}: call {name_of(function)} from there"
            )
        self._by_type[event_type] = function

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
            check_async(function, field=f"the handler of {event_type}")
            self._add(event_type, function)
            return function

        return register

    def on_unknown(self, function: UnknownHandler) -> UnknownHandler:
        """Register the function that takes events of a type that is newer than this version.

        Raises:
            ConfigurationError: There is one.
            InvalidArgumentError: This one is no `async def`.
        """
        check_async(function, field="the handler of unknown events")
        if self._unknown is not None:
            raise ConfigurationError(
                f"unknown events have a handler, {name_of(self._unknown)}: call "
                f"{name_of(function)} from there"
            )
        self._unknown = function
        return function

    async def dispatch(self, event: AnyEvent) -> None:
        """Give an event to its function, and wait for that.

        Args:
            event: What `verify` gave.

        Raises:
            Exception: Whatever the function raises; where it lets a `CancelledError` out and
                nobody cancels, one that says so.
        """
        if isinstance(event, UnknownEvent):
            handler = cast("Handler[AnyEvent] | None", self._unknown)
        else:
            handler = self._by_type.get(event.event_type)
        if handler is None:
            logger.debug("%s %s: no handler", event.event_type, event.webhook_id)
            return
        await run_user_code(handler, event)

    def on_winding_down(self, callback: Callable[[], None]) -> None:
        """Be told when events will soon not be waited for any more.

        A handler that waits for a long time on purpose, as the `CommandProcessor` does
        between two tries, ends its wait then.

        Args:
            callback: What to call; it must not block.
        """
        self._winding_down.append(callback)

    def wind_down(self) -> None:
        """Tell those who wanted to be told; for whoever delivers events, before it closes."""
        for callback in self._winding_down:
            callback()

    def __repr__(self) -> str:
        return f"<Handlers {', '.join(self._by_type) or 'none'}>"
