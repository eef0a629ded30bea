"""Events and commands, as they follow from a dispatch."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from flip_async.emulator._random_source import RandomSource

Json = dict[str, Any]  # a JSON object, whose values may be anything
Announce = Callable[[str, str, Json], None]
"""Is told an event type, the kind of object, and the object as it is now."""
Schedule = Callable[[float, str], None]
"""Is told when to look at which command again."""

ACKNOWLEDGE_WITHIN_S: Final = 15 * 60


@attrs.define
class _Plan:
    """What is to come of a command that is not over.

    Attributes:
        starts_s: When it begins, as Unix time.
        ends_s: When it is over.
        acknowledge_by_s: When Flip takes it for failed; `None` where nobody is asked.
        has_begun: Whether it was told that it begins.
    """

    starts_s: float
    ends_s: float
    acknowledge_by_s: float | None
    has_begun: bool = False


class Grid:
    """Keeps events and commands; time is told to it.

    `_plans` has the commands that are not over: whatever changes an event changes these alone.
    """

    def __init__(
        self,
        now: Callable[[], float],
        announce: Announce,
        schedule: Schedule,
        ids: RandomSource,
    ) -> None:
        self._now: Final = now
        self._announce: Final = announce
        self._schedule: Final = schedule
        self._ids: Final = ids
        self._events: Final[dict[str, Json]] = {}
        self._commands: Final[dict[str, Json]] = {}
        self._plans: Final[dict[str, _Plan]] = {}

    def clear(self) -> None:
        """Forget everything."""
        for rows in (self._events, self._commands, self._plans):
            rows.clear()

    def dispatch(
        self,
        enrollment: Json,
        *,
        starts_in_s: float,
        duration_s: float,
        battery_commands: Json,
    ) -> str:
        """Make an event for an enrollment, and a command for each of its devices."""
        now = self._now()
        starts_s, ends_s = now + starts_in_s, now + starts_in_s + duration_s
        span = {"starts_at": iso(starts_s), "ends_at": iso(ends_s), "duration_s": duration_s}
        event_id = self._ids.uuid()
        self._events[event_id] = {
            "id": event_id,
            "program_id": enrollment["program_id"],
            "site_id": enrollment["site_id"],
            **span,
            "schedule": [
                {
                    "device_ids": list(enrollment["device_ids"]),
                    **span,
                    "is_preparatory_action": False,
                    "mode": battery_commands["mode"],
                }
            ],
            "status": "UPCOMING",
            "is_participating": True,
            "created_at": iso(now),
            "updated_at": iso(now),
        }
        self._announce("event.created", "event", self._events[event_id])
        for device_id in enrollment["device_ids"]:
            what = {**span, "battery_commands": dict(battery_commands)}
            self._add_command(event_id, device_id, what, (starts_s, ends_s), now)
        return event_id

    def _add_command(
        self, event_id: str, device_id: str, what: Json, span_s: tuple[float, float], now: float
    ) -> None:
        command_id = self._ids.uuid()
        command = self._commands[command_id] = {
            "id": command_id,
            "event_id": event_id,
            "device_id": device_id,
            **what,
            "is_preparatory_action": False,
            "status": "OK",
            "device_status": "PENDING",
            "device_status_reason": None,
            "created_at": iso(now),
            "updated_at": iso(now),
        }
        self._plans[command_id] = _Plan(*span_s, acknowledge_by_s=now + ACKNOWLEDGE_WITHIN_S)
        for due_s in (*span_s, now + ACKNOWLEDGE_WITHIN_S):
            self._schedule(max(due_s, now), command_id)
        self._announce("command.created", "command", command)

    # Events

    def events_now(self) -> dict[str, Json]:
        """All events, with the status that the time gives them."""
        for event in self._events.values():
            if event["status"] != "CANCELED":
                event["status"] = self._status_now(event)
        return self._events

    def _status_now(self, event: Json) -> str:
        now = iso(self._now())
        if now < event["starts_at"]:
            return "UPCOMING"
        return "ACTIVE" if now < event["ends_at"] else "COMPLETED"

    def participate(self, event: Json, body: Json) -> Json:
        """Opt in or out; commands that are opted out of ask for a new acknowledgement."""
        if "is_participating" in body:
            was, event["is_participating"] = event["is_participating"], body["is_participating"]
            event["updated_at"] = iso(self._now())
            self._announce("event.updated", "event", event)
            if was != event["is_participating"] and event["status"] != "CANCELED":
                status = "OK" if body["is_participating"] else "OPT_OUT"
                self._change_commands(event, status, "command.updated")
        return event

    def cancel(self, event: Json) -> None:
        """The utility cancels an event; one that is over, or was canceled, it cannot."""
        if event["status"] in ("CANCELED", "COMPLETED"):
            return
        event |= {"status": "CANCELED", "updated_at": iso(self._now())}
        self._announce("event.canceled", "event", event)
        self._change_commands(event, "CANCELED", "command.canceled")

    def _change_commands(self, event: Json, status: str, event_type: str) -> None:
        now = self._now()
        for command_id, plan in list(self._plans.items()):
            command = self._commands[command_id]
            if command["event_id"] == event["id"]:
                change = {"status": status, "device_status": "PENDING", "updated_at": iso(now)}
                command |= change
                plan.acknowledge_by_s = now + ACKNOWLEDGE_WITHIN_S
                self._schedule(plan.acknowledge_by_s, command_id)
                self._announce(event_type, "command", command)

    # Commands

    def commands(self) -> list[Json]:
        return list(self._commands.values())

    def command(self, command_id: str) -> Json | None:
        return self._commands.get(command_id)

    def acknowledge(self, command: Json, body: Json) -> Json:
        command["device_status"] = body["device_status"]
        command["device_status_reason"] = body.get("device_status_reason")
        command["updated_at"] = iso(self._now())
        plan = self._plans.get(command["id"])
        if plan is not None:
            plan.acknowledge_by_s = None
        return command

    def look_at(self, command_id: str, now: float) -> None:
        """Let a command begin, end, or fail, where it is time for that."""
        plan = self._plans.get(command_id)
        if plan is None:
            return
        command = self._commands[command_id]
        if plan.acknowledge_by_s is not None and plan.acknowledge_by_s <= now:
            plan.acknowledge_by_s = None
            self._fail(command, plan, now)
            return
        if not plan.has_begun and plan.starts_s <= now:
            plan.has_begun = True
            self._announce_if_it_takes_place("command.started", command)
        if plan.ends_s <= now:
            del self._plans[command_id]
            self._announce_if_it_takes_place("command.ended", command)

    def _fail(self, command: Json, plan: _Plan, now: float) -> None:
        """Nobody acknowledged it in time: it counts as failed, and is sent anew.

        How it then looks is not documented: its status here is assumed. What does not take place
        is not sent anew, since a cancelation would come back as a command.
        """
        reason = "Not acknowledged within 15 minutes"
        command |= {
            "device_status": "FAILED_OFFLINE",
            "device_status_reason": reason,
            "updated_at": iso(now),
        }
        if command["status"] == "OK":
            del self._plans[command["id"]]
            span = ("starts_at", "ends_at", "duration_s")
            what = {name: command[name] for name in span}
            what["battery_commands"] = dict(command["battery_commands"])
            span_s = (plan.starts_s, plan.ends_s)
            self._add_command(command["event_id"], command["device_id"], what, span_s, now)

    def _announce_if_it_takes_place(self, event_type: str, command: Json) -> None:
        if command["status"] == "OK":
            self._announce(event_type, "command", command)


def iso(unix_s: float) -> str:
    """A moment as the API prints it."""
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
