"""Events and commands, as they follow from a dispatch."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

Json = dict[str, Any]  # a JSON object, whose values may be anything
Announce = Callable[[str, str, Json], None]
"""Is told an event type, the kind of object, and the object as it is now."""

ACKNOWLEDGE_WITHIN_S: Final = 15 * 60


class Grid:
    """Keeps events and commands; time is told to it."""

    def __init__(self, now: Callable[[], float], announce: Announce) -> None:
        self._now: Final = now
        self._announce: Final = announce
        self._events: Final[dict[str, Json]] = {}
        self._commands: Final[dict[str, Json]] = {}
        self._phases: Final[dict[str, str]] = {}  # of commands that are not over

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
        starts_at, ends_at = iso(now + starts_in_s), iso(now + starts_in_s + duration_s)
        span = {"starts_at": starts_at, "ends_at": ends_at, "duration_s": duration_s}
        event_id = str(uuid.uuid4())
        self._events[event_id] = {
            "id": event_id,
            "program_id": enrollment["program_id"],
            "site_id": enrollment["site_id"],
            **span,
            "schedule": [
                {
                    "device_ids": enrollment["device_ids"],
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
            self._add_command(event_id, device_id, {**span, "battery_commands": battery_commands})
        return event_id

    def _add_command(self, event_id: str, device_id: str, what: Json) -> None:
        now = iso(self._now())
        command = {
            "id": str(uuid.uuid4()),
            "event_id": event_id,
            "device_id": device_id,
            **what,
            "is_preparatory_action": False,
            "status": "OK",
            "device_status": "PENDING",
            "device_status_reason": None,
            "created_at": now,
            "updated_at": now,
        }
        self._commands[str(command["id"])] = command
        self._phases[str(command["id"])] = "waiting"
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
            event["is_participating"] = body["is_participating"]
            event["updated_at"] = iso(self._now())
            self._announce("event.updated", "event", event)
            status = "OK" if body["is_participating"] else "OPT_OUT"
            self._change_commands(event, status, "command.updated")
        return event

    def cancel(self, event_id: str) -> None:
        """The utility cancels an event."""
        event = self._events[event_id]
        event |= {"status": "CANCELED", "updated_at": iso(self._now())}
        self._announce("event.canceled", "event", event)
        self._change_commands(event, "CANCELED", "command.canceled")

    def _change_commands(self, event: Json, status: str, event_type: str) -> None:
        for command in self._commands.values():
            if command["event_id"] == event["id"]:
                now = iso(self._now())
                command |= {"status": status, "device_status": "PENDING", "updated_at": now}
                self._announce(event_type, "command", command)

    # Commands

    def commands_now(self) -> list[Json]:
        """All commands, as the time has left them."""
        self.pass_time()
        return list(self._commands.values())

    def pass_time(self) -> None:
        """Let commands begin and end, and fail where nobody acknowledged them in time.

        One that failed is sent anew. How it then looks is not documented: its status here
        is assumed.
        """
        now = iso(self._now())
        for command_id in list(self._phases):
            command = self._commands[command_id]
            if self._acknowledge_by(command) < now:
                reason = "Not acknowledged within 15 minutes"
                command |= {"device_status": "FAILED_OFFLINE", "device_status_reason": reason}
                del self._phases[command_id]
                span = ("starts_at", "ends_at", "duration_s", "battery_commands")
                what = {name: command[name] for name in span}
                self._add_command(command["event_id"], command["device_id"], what)
                continue
            if self._phases[command_id] == "waiting" and command["starts_at"] <= now:
                self._phases[command_id] = "running"
                self._announce_if_it_takes_place("command.started", command)
            if command["ends_at"] <= now:
                del self._phases[command_id]
                self._announce_if_it_takes_place("command.ended", command)

    def _acknowledge_by(self, command: Json) -> str:
        if command["device_status"] != "PENDING":
            return "9"  # later than any year of ours
        changed_at = datetime.fromisoformat(command["updated_at"]).timestamp()
        return iso(changed_at + ACKNOWLEDGE_WITHIN_S)

    def _announce_if_it_takes_place(self, event_type: str, command: Json) -> None:
        if command["status"] == "OK":
            self._announce(event_type, "command", command)

    def command(self, command_id: str) -> Json | None:
        return self._commands.get(command_id)

    def acknowledge(self, command: Json, body: Json) -> Json:
        command["device_status"] = body["device_status"]
        command["device_status_reason"] = body.get("device_status_reason")
        command["updated_at"] = iso(self._now())
        return command


def iso(unix_s: float) -> str:
    """A moment as the API prints it."""
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
