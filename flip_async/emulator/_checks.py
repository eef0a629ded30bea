"""What the emulated Flip refuses; no more than the API's reference says."""

import math
import re
from datetime import datetime
from typing import Any, Final

import attrs

from flip_async.emulator._grid import Json
from flip_async.emulator._world import SITE_FIELDS

LARGEST_BATCH: Final = 1000
# Written out again, not taken from the SDK: the emulator is a second reading.
_STATES: Final = set(
    re.findall(
        "..",
        "AKALARAZCACOCTDEFLGAHIIAIDILINKSKYLAMAMDMEMIMNMOMSMTNCNDNENHNJNMNVNYOHOKORPAPRRISCSDTN"
        "TXUTVAVTWAWIWVWY",
    )
)
_DEVICE_TYPES: Final = ("BATTERY", "EV_CHARGER")
_DEVICE_STATUSES: Final = ("OK", "FAILED", "FAILED_OFFLINE", "FAILED_FAULT")
_EVENT_STATUSES: Final = ("ACTIVE", "COMPLETED", "UPCOMING")
_ENROLL_METHODS: Final = ("AUTO_ENROLL", "USER_ACTION")
_RATINGS: Final = ("battery_capacity_wh", "battery_power_input_w", "battery_power_output_w")
_AMOUNTS: Final = (
    "battery_last_power_charge_w",
    "battery_last_power_discharge_w",
    "battery_total_energy_charge_wh",
    "battery_total_energy_discharge_wh",
    "battery_last_stored_energy_wh",
    "battery_last_capacity_energy_wh",
    "home_total_energy_wh",
    "home_last_power_w",
    "solar_total_energy_wh",
    "solar_last_power_w",
)
_PERCENTAGES: Final = (
    "battery_last_backup_reserve_percentage",
    "battery_last_state_of_charge_percentage",
    "battery_last_state_of_health_percentage",
)


@attrs.frozen
class Problem:
    """One thing that is wrong with a request."""

    place: tuple[str, ...]
    message: str
    type: str


class Problems:
    """Collects what is wrong, with its place."""

    def __init__(self, *place: str) -> None:
        self.found: Final[list[Problem]] = []
        self._place: Final = place

    def add(self, place: tuple[str, ...], message: str, kind: str) -> None:
        self.found.append(Problem((*self._place, *place), message, kind))

    def need(
        self, owner: object, place: tuple[str, ...], name: str, kind: type | tuple[type, ...]
    ) -> Any:
        """The value of a required field, or `None` where it is missing or of another type."""
        value = owner.get(name) if isinstance(owner, dict) else None
        if not isinstance(owner, dict) or name not in owner:
            self.add((*place, name), "Field required", "missing")
            return None
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            self.add((*place, name), "Input has the wrong type", "type_error")
            return None
        return value


def check_commission(body: object) -> list[Problem]:
    """Whether `site_id` in a device is asked for differs between pages: it is not here."""
    problems = Problems("body")
    site = problems.need(body, (), "site", dict)
    if site is not None:
        problems.need(site, ("site",), "id", str)
        _check_site(problems, site, ("site",))
    devices = problems.need(body, (), "devices", list)
    if devices is not None and not devices:
        problems.add(("devices",), "List should have at least 1 item", "too_short")
    for index, device in enumerate(devices or []):
        _check_device(problems, device, ("devices", str(index)))
    if isinstance(body, dict) and body.get("enrollment") is not None:
        _check_enrollment(problems, body["enrollment"], ("enrollment",))
    return problems.found


def check_session(body: object) -> list[Problem]:
    problems = Problems("body")
    site = problems.need(body, (), "site", dict)
    if site is not None:
        problems.need(site, ("site",), "id", str)
        _check_site(problems, site, ("site",))
    return problems.found


def check_device(body: object) -> list[Problem]:
    problems = Problems("body")
    _check_device(problems, body, ())
    return problems.found


def check_device_update(body: object) -> list[Problem]:
    problems = Problems("body")
    if not isinstance(body, dict):
        problems.add((), "Input should be an object", "type_error")
    elif "attributes" in body:
        attributes = problems.need(body, (), "attributes", dict)
        for name in _RATINGS if attributes is not None else ():
            problems.need(attributes, ("attributes",), name, int)
    return problems.found


def check_enrollment(body: object) -> list[Problem]:
    problems = Problems("body")
    _check_enrollment(problems, body, ())
    return problems.found


def check_terms(enrollment: Json, program: Json | None, *place: str) -> list[Problem]:
    """What a program asks for; how Flip says that it is missing is not documented."""
    problems = Problems("body", *place)
    if program is None:
        return []
    if program["terms_and_conditions_version"] is not None:
        if enrollment.get("has_agreed_to_terms_and_conditions") is not True:
            problems.add(("has_agreed_to_terms_and_conditions",), "Agreement required", "missing")
        wanted = program["terms_and_conditions_version"]
        if enrollment.get("terms_and_conditions_version") != wanted:
            problems.add(("terms_and_conditions_version",), f"Should be {wanted}", "value_error")
    given = {entry["name"] for entry in enrollment.get("program_specific_attributes") or []}
    for field in program["enrollment_form"]:
        if field["name"] not in given:
            place = ("program_specific_attributes", field["name"])
            problems.add(place, "This field is required", "missing")
    return problems.found


def check_command_status(body: object) -> list[Problem]:
    problems = Problems("body")
    status = problems.need(body, (), "device_status", str)
    if status is not None and status not in _DEVICE_STATUSES:
        problems.add(("device_status",), "Input is not known", "enum")
    return problems.found


def check_event_update(body: object) -> list[Problem]:
    problems = Problems("body")
    if not isinstance(body, dict):
        problems.add((), "Input should be an object", "type_error")
    elif "is_participating" in body:
        problems.need(body, (), "is_participating", bool)
    return problems.found


def check_event_statuses(wanted: list[str]) -> list[Problem]:
    problems = Problems("query")
    for status in wanted:
        if status not in _EVENT_STATUSES:
            problems.add(("status",), "Input should be ACTIVE, COMPLETED or UPCOMING", "enum")
    return problems.found


def check_program_query(query: dict[str, str]) -> list[Problem]:
    problems = Problems("query")
    _check_device_type(problems, query)
    for name, least in (("total_capacity_wh", 1), ("total_power_w", 0)):
        value = query.get(name)
        if value is None:
            problems.add((name,), "Field required", "missing")
        elif re.fullmatch("[0-9]{1,12}", value) is None or int(value) < least:
            problems.add((name,), f"Input should be an integer of at least {least}", "int_parsing")
    return problems.found


def check_site_program_query(query: dict[str, str]) -> list[Problem]:
    problems = Problems("query")
    _check_device_type(problems, query)
    if not query.get("zip_code"):
        problems.add(("zip_code",), "Field required", "missing")
    return problems.found


def _check_device_type(problems: Problems, query: dict[str, str]) -> None:
    if query.get("device_type") not in _DEVICE_TYPES:
        problems.add(("device_type",), "Input should be 'BATTERY' or 'EV_CHARGER'", "enum")


def check_counters(body: object) -> list[Problem]:
    problems = Problems("body")
    points = problems.need(body, (), "telemetry", list)
    if points is not None and len(points) > LARGEST_BATCH:
        problems.add(("telemetry",), "List should have at most 1000 items", "too_long")
    for index, point in enumerate(points or []):
        if not isinstance(point, dict):
            problems.add(("telemetry", str(index)), "Input should be an object", "type_error")
    return problems.found


def check_site_update(body: object) -> list[Problem]:
    problems = Problems("body")
    if isinstance(body, dict):
        _check_site(problems, body, ())
    else:
        problems.add((), "Input should be an object", "type_error")
    return problems.found


def _check_site(problems: Problems, site: Json, place: tuple[str, ...]) -> None:
    for name in SITE_FIELDS:
        value = site.get(name)
        if value is not None and not isinstance(value, str):
            problems.add((*place, name), "Input should be a string", "type_error")
    state_code = site.get("state_code")
    if isinstance(state_code, str) and state_code not in _STATES:
        problems.add((*place, "state_code"), "Input should be a US state code", "enum")


def _check_device(problems: Problems, device: object, place: tuple[str, ...]) -> None:
    for name in ("id", "manufacturer_name", "product_name", "serial_number"):
        problems.need(device, place, name, str)
    kind = problems.need(device, place, "type", str)
    if kind is not None and kind not in _DEVICE_TYPES:
        problems.add((*place, "type"), "Input should be 'BATTERY' or 'EV_CHARGER'", "enum")
    attributes = problems.need(device, place, "attributes", dict)
    if kind == "BATTERY" and attributes is not None:
        for name in _RATINGS:
            problems.need(attributes, (*place, "attributes"), name, int)
    installed = problems.need(device, place, "install_date", str)
    if installed is not None and not _is_date(installed):
        problems.add((*place, "install_date"), "Input should be a date-time", "datetime")


def _check_enrollment(problems: Problems, enrollment: object, place: tuple[str, ...]) -> None:
    devices = problems.need(enrollment, place, "device_ids", list)
    if not all(isinstance(one, str) for one in devices or []):
        problems.add((*place, "device_ids"), "Input should be a list of strings", "type_error")
    problems.need(enrollment, place, "program_id", str)
    method = problems.need(enrollment, place, "enroll_method", str)
    if method is not None and method not in _ENROLL_METHODS:
        problems.add((*place, "enroll_method"), "Input is not known", "enum")
    given = enrollment.get("program_specific_attributes") if isinstance(enrollment, dict) else None
    if given is not None:
        _check_attributes(problems, given, (*place, "program_specific_attributes"))


def _check_attributes(problems: Problems, given: object, place: tuple[str, ...]) -> None:
    """Answers to the form: values are strings, whatever the field's type."""
    if not isinstance(given, list):
        problems.add(place, "Input should be a list of objects", "type_error")
        return
    for index, entry in enumerate(given):
        for name in ("name", "value"):
            problems.need(entry, (*place, str(index)), name, str)


def check_telemetry(body: object) -> list[Problem]:
    problems = Problems("body")
    points = problems.need(body, (), "telemetry", list)
    if points is None:
        return problems.found
    if len(points) > LARGEST_BATCH:
        problems.add(("telemetry",), "List should have at most 1000 items", "too_long")
    for index, point in enumerate(points):
        place = ("telemetry", str(index))
        problems.need(point, place, "device_id", str)
        problems.need(point, place, "duration_s", (int, float))
        started = problems.need(point, place, "start_time", str)
        if started is not None and not _is_date(started):
            problems.add((*place, "start_time"), "Input should be a date-time", "datetime")
    return problems.found


def why_point_fails(point: Json) -> str | None:
    """What is wrong with the values of one point."""
    for name in (*_AMOUNTS, *_PERCENTAGES):
        value = point.get(name)
        if value is None:
            continue
        most = 100 if name in _PERCENTAGES else math.inf
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            return f"{name} is out of range"
    return None


def check_paging(query: dict[str, str]) -> list[Problem]:
    problems = Problems("query")
    for name in ("skip", "limit"):
        value = query.get(name)
        if value is not None and re.fullmatch("[0-9]{1,9}", value) is None:
            problems.add((name,), "Input should be a valid integer", "int_parsing")
    return problems.found


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
