"""What the emulated Flip knows: tokens, sites, devices, telemetry. All in memory.

It builds plain dictionaries as the API's reference prints them, and never sees the
SDK's models: with those on both sides a wrong field name would be right.
"""

import secrets
from collections.abc import Callable, Collection
from typing import Final, Literal

import attrs

from flip_async._clock import Clock
from flip_async.emulator._agenda import Agenda
from flip_async.emulator._clocks import ManualClock
from flip_async.emulator._grid import Grid, Json, iso
from flip_async.emulator._random_source import RandomSource

Kind = Literal["client", "site"]

SITE_TOKEN_LIFETIME_S: Final = 3600.0
SANDBOX_ZIP_CODES: Final = ("88800", "88801", "88802")
SITE_FIELDS: Final = (
    "first_name",
    "last_name",
    "company_name",
    "email",
    "state_code",
    "city",
    "zip_code",
    "street_address",
    "street_address2",
)


@attrs.frozen
class Grant:
    """What a bearer token opens.

    Attributes:
        kind: The organisation, or one site.
        expires_at: When it is over, by the emulator's clock.
        site_id: The site.
    """

    kind: Kind
    expires_at: float
    site_id: str | None = None


OnTelemetry = Callable[[Json], object]


class World:
    """The state, and what can happen to it."""

    def __init__(
        self,
        *,
        api_key: str,
        token_lifetime_s: float,
        clock: Clock,
        seed: int | None = None,
        max_limit: int | None = None,
        on_telemetry: OnTelemetry | None = None,
        accept_unknown_devices: bool = False,
    ) -> None:
        self.api_key: Final = api_key
        self.max_limit: Final = max_limit
        self.accept_unknown_devices: Final = accept_unknown_devices
        self.token_lifetime_s = token_lifetime_s
        self._first_token_lifetime_s: Final = token_lifetime_s
        self.sites: Final[dict[str, Json]] = {}
        self.devices: Final[dict[str, Json]] = {}
        self.enrollments: Final[dict[str, Json]] = {}
        self.telemetry: Final[list[Json]] = []
        self.accept_point: Final[OnTelemetry] = on_telemetry or self.telemetry.append
        self._grants: Final[dict[str, Grant]] = {}
        self._sessions: Final[dict[str, str]] = {}
        self._ids: Final = RandomSource(seed, "ids")
        self._tokens: Final = RandomSource(seed, "tokens")
        self._clock: Final = clock
        self._ahead_s = 0.0
        self.listeners: Final[list[Callable[[str, Json, float], None]]] = []
        self.agenda: Final = Agenda(clock, self.now, self._look_at)
        self.grid: Final = Grid(self.now, self.announce, self.agenda.add, self._ids)

    def reset(self) -> None:
        """Begin anew. Tokens are not drawn anew: one of before must not open something else."""
        self.agenda.clear()
        self.grid.clear()
        for rows in (self.sites, self.devices, self.enrollments, self._grants, self._sessions):
            rows.clear()
        self.telemetry.clear()
        self._ids.restart()
        self._ahead_s = 0.0
        self.token_lifetime_s = self._first_token_lifetime_s

    # Time

    def now(self) -> float:
        """Unix time, by the emulator's clock."""
        return self._clock.now().wall_s + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Move the emulator's clock forward."""
        if isinstance(self._clock, ManualClock):
            self._clock.advance(seconds)
        else:
            self._ahead_s += seconds
        self.agenda.pass_time()

    def _look_at(self, command_id: str, now: float) -> None:
        self.grid.look_at(command_id, now)

    def commands_now(self) -> list[Json]:
        """All commands, as the time has left them."""
        self.agenda.pass_time()
        return self.grid.commands()

    def timestamp(self) -> str:
        return iso(self.now())

    def announce(self, event_type: str, kind: str, row: Json) -> None:
        """Tell what has happened, to whom it is told by webhook."""
        for listener in self.listeners:
            listener(event_type, {**row, "object_type": kind}, self.now())

    # Tokens

    def issue_access_token(self) -> tuple[str, float]:
        token = f"at_{self._tokens.text(24)}"
        self._grants[token] = Grant("client", self.now() + self.token_lifetime_s)
        return token, self.token_lifetime_s

    def issue_site_token(self, site_id: str) -> Json:
        token = f"fst_{self._tokens.text(24)}"
        expires_at = self.now() + SITE_TOKEN_LIFETIME_S
        self._grants[token] = Grant("site", expires_at, site_id)
        return {"site_access_token": token, "expires_at": iso(expires_at)}

    def grant_of(self, bearer: str) -> Grant | None:
        if secrets.compare_digest(bearer.encode(), self.api_key.encode()):
            return Grant("client", float("inf"))
        grant = self._grants.get(bearer)
        return grant if grant is not None and self.now() < grant.expires_at else None

    def revoke_tokens(self) -> None:
        self._grants.clear()

    # Sites

    def commission(
        self, site: Json, devices: list[Json], can_auto_enroll: bool, enrollment: Json | None
    ) -> Json:
        now, site_id = self.timestamp(), site["id"]
        before = self.sites.get(site_id, {"created_at": now})
        self.sites[site_id] = {
            "id": site_id,
            **{name: site.get(name) for name in SITE_FIELDS},
            "created_at": before["created_at"],
            "updated_at": now,
        }
        for device in devices:
            self.put_device(site_id, device)
        programs = self.programs_for(site.get("zip_code"), {device["type"] for device in devices})
        made = None
        if enrollment is not None:
            made = self.enroll(site_id, enrollment)
        elif can_auto_enroll:
            made = self._auto_enroll(site_id, devices, programs)
        return {"programs": programs, "enrollment": made}

    def enroll_site(self, site_id: str, device_ids: Collection[str]) -> str:
        """A site with batteries, and an enrollment that was approved."""
        site = {"id": site_id, "state_code": "CA", "zip_code": SANDBOX_ZIP_CODES[1]}
        devices = [
            {
                "id": device_id,
                "manufacturer_name": "Emulated Batteries",
                "product_name": "Wall 10",
                "serial_number": f"EB-{number:04}",
                "type": "BATTERY",
                "attributes": {
                    "battery_capacity_wh": 10_000,
                    "battery_power_input_w": 5_000,
                    "battery_power_output_w": 5_000,
                },
                "install_date": "2025-06-01T00:00:00Z",
            }
            for number, device_id in enumerate(device_ids, 1)
        ]
        made = self.commission(site, devices, can_auto_enroll=True, enrollment=None)
        enrollment_id = str(made["enrollment"]["id"])
        self.review(enrollment_id, "ACTIVE", None)
        return enrollment_id

    def put_device(self, site_id: str, device: Json) -> Json:
        now = self.timestamp()
        known = self.devices.get(device["id"], {"created_at": now})
        made = self.devices[device["id"]] = {
            **{name: device[name] for name in _DEVICE_FIELDS},
            "site_id": site_id,
            "created_at": known["created_at"],
            "updated_at": now,
        }
        return made

    def update_device(self, device: Json, changes: Json) -> Json:
        device["attributes"] = device["attributes"] | changes.get("attributes", {})
        device["updated_at"] = self.timestamp()
        return device

    def of_site(self, rows: dict[str, Json], site_id: str) -> list[Json]:
        return [row for row in rows.values() if row["site_id"] == site_id]

    def knows_device(self, device_id: str) -> bool:
        """Whether telemetry of a device is taken; what Flip does is not documented."""
        return self.accept_unknown_devices or device_id in self.devices

    # Sessions

    def open_session(self, site_id: str) -> Json:
        token = f"st_{self._tokens.text(16)}"
        self._sessions[token] = site_id
        has_programs = bool(self.programs_for(self.sites[site_id]["zip_code"], {"BATTERY"}))
        return {"token": token, "has_programs": has_programs}

    def use_session(self, token: str) -> str | None:
        """The site of a session; it opens once."""
        return self._sessions.pop(token, None)

    # Programs and enrollments

    def program(self, program_id: object) -> Json | None:
        return next((one for one in _PROGRAMS if one["id"] == program_id), None)

    def programs_of_type(self, device_type: str) -> list[Json]:
        return [one for one in _PROGRAMS if device_type in one["eligible_device_types"]]

    def review(self, enrollment_id: str, status: str, reason: str | None) -> None:
        """Give an enrollment another status."""
        enrollment = self.enrollments[enrollment_id]
        enrollment |= {"status": status, "status_reason": reason}
        if status == "ACTIVE":
            enrollment["enrolled_at"] = self.timestamp()
        elif status == "UNENROLLED":
            enrollment["unenrolled_at"] = self.timestamp()
        self.announce("enrollment.updated", "enrollment", enrollment)

    def update_site(self, site_id: str, changes: Json) -> Json:
        site = self.sites[site_id]
        site.update({name: changes[name] for name in SITE_FIELDS if name in changes})
        site["updated_at"] = self.timestamp()
        return site

    def programs_for(self, zip_code: object, device_types: set[str]) -> list[Json]:
        if zip_code not in SANDBOX_ZIP_CODES:
            return []
        return [
            program for program in _PROGRAMS if device_types & set(program["eligible_device_types"])
        ]

    def _auto_enroll(self, site_id: str, devices: list[Json], programs: list[Json]) -> Json | None:
        for program in programs:
            if program["can_auto_enroll"]:
                wanted = {
                    "device_ids": [device["id"] for device in devices],
                    "program_id": program["id"],
                    "enroll_method": "AUTO_ENROLL",
                }
                return self.enroll(site_id, wanted)
        return None

    def enroll(self, site_id: str, wanted: Json) -> Json:
        enrollment = {
            "id": self._ids.uuid(),
            "device_ids": wanted["device_ids"],
            "site_id": site_id,
            "program_id": wanted["program_id"],
            "enroll_method": wanted["enroll_method"],
            "status": "PENDING",
            "status_reason": None,
            "enrolled_at": None,
            "unenrolled_at": None,
            "program_specific_attributes": wanted.get("program_specific_attributes") or [],
            "has_agreed_to_terms_and_conditions": wanted.get("has_agreed_to_terms_and_conditions"),
            "terms_and_conditions_version": wanted.get("terms_and_conditions_version"),
        }
        self.enrollments[str(enrollment["id"])] = enrollment
        self.announce("enrollment.created", "enrollment", enrollment)
        return enrollment


_DEVICE_FIELDS: Final = (
    "id",
    "manufacturer_name",
    "product_name",
    "serial_number",
    "type",
    "attributes",
    "install_date",
)

_PROGRAMS: Final[list[Json]] = [
    {
        "id": "0d5b6a1e-6c1f-4a55-9f3e-2b7d8c9e0f11",
        "name": "Emulated Peak Program",
        "description": "Asks for an agreement and an account number.",
        "eligible_device_types": ["BATTERY"],
        "can_auto_enroll": False,
        "minimum_reserve_percentage": 20,
        "minimum_commitment_months": 12,
        "participation_months": [6, 7, 8, 9],
        "earnings_for_site_upfront": 100,
        "earnings_for_site_yearly": 300,
        "created_at": "2025-01-01T00:00:00Z",
        "updated_at": "2025-01-01T00:00:00Z",
        "enrollment_form": [
            {
                "name": "account_id",
                "label": "Account number",
                "type": "string",
                "hint": "On the bill",
            }
        ],
        "terms_and_conditions_version": "2025-01-01",
        "terms_and_conditions_text": "# Terms\n\nYou may leave at any time.",
    },
    {
        "id": "7a1c2d3e-4f50-4617-8293-a4b5c6d7e8f9",
        "name": "Emulated Open Program",
        "description": "Asks for nothing.",
        "eligible_device_types": ["BATTERY", "EV_CHARGER"],
        "can_auto_enroll": True,
        "minimum_reserve_percentage": 10,
        "minimum_commitment_months": None,
        "participation_months": list(range(1, 13)),
        "earnings_for_site_upfront": 0,
        "earnings_for_site_yearly": 120,
        "created_at": "2025-01-01T00:00:00Z",
        "updated_at": "2025-01-01T00:00:00Z",
        "enrollment_form": [],
        "terms_and_conditions_version": None,
        "terms_and_conditions_text": None,
    },
]
