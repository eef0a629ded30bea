"""What can be read from the body of an error, whichever shape it has."""

import json
from typing import Final

import attrs
import httpx

from flip_async._secret import Secret, scrub

_LONGEST_SERVER_TEXT: Final = 500


@attrs.frozen
class FieldError:
    """What is wrong with one field of a request.

    Attributes:
        field: Where it stands in the request: `devices.0.type`.
        message: What the server says of it.
        type: The server's word for the kind of error, if it gave one.
    """

    field: str
    message: str
    type: str | None = None


@attrs.frozen
class ErrorBody:
    """The parts of it that tell something (the API's reference, section 5)."""

    message: str | None = None
    code: str | None = None
    details: tuple[FieldError, ...] = ()

    @classmethod
    def read(cls, response: httpx.Response, *secrets: Secret) -> "ErrorBody":
        """Read what is there, secrets cut out; what cannot be read is as good as absent."""
        try:
            document = _scrubbed(json.loads(response.content), secrets)
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(document, dict):
            return cls()
        details = (
            _details(document.get("detail"))
            or _details(document.get("errors"))
            or _missing_for_enrollment(document.get("enrollment"))
        )
        message = _first_text(document, "message", "detail", "error")
        if details:
            first = f"{details[0].field}: {details[0].message}"
            message = f"{message}: {first}" if message else first
        return cls(message=message, code=_first_text(document, "code"), details=details)


def _scrubbed(document: object, secrets: tuple[Secret, ...]) -> object:
    """Cut secrets out of every text, names too, before any is cut short."""
    if isinstance(document, str):
        return scrub(document, *secrets)
    if isinstance(document, list):
        return [_scrubbed(entry, secrets) for entry in document]
    if isinstance(document, dict):
        return {
            scrub(name, *secrets): _scrubbed(entry, secrets) for name, entry in document.items()
        }
    return document


def _first_text(document: dict[str, object], *names: str) -> str | None:
    for name in names:
        value = document.get(name)
        if isinstance(value, str) and value:
            return value[:_LONGEST_SERVER_TEXT]
    return None


def _details(entries: object) -> tuple[FieldError, ...]:
    """Read `detail` (`loc`, `msg`) or `errors` (`path`, `message`): both tell the same."""
    if not isinstance(entries, list):
        return ()
    return tuple(_field_error(entry) for entry in entries if isinstance(entry, dict))


def _field_error(entry: dict[str, object]) -> FieldError:
    loc = entry.get("loc")
    if isinstance(loc, list):
        # The first part names the place (body, path, query), not the field.
        field = ".".join(str(part) for part in (loc[1:] or loc))[:_LONGEST_SERVER_TEXT]
    else:
        field = _first_text(entry, "path") or ""
    message = _first_text(entry, "msg", "message") or "not valid"
    return FieldError(field=field, message=message, type=_first_text(entry, "type"))


def _missing_for_enrollment(missing: object) -> tuple[FieldError, ...]:
    """Read what the Aggregator API's commissioning says that it needs (reference, section 21)."""
    if not isinstance(missing, dict):
        return ()
    attributes = missing.get("missing_site_attributes")
    found = [
        FieldError(field=f"site.{name}", message="required", type="missing")
        for name in (attributes if isinstance(attributes, list) else ())
    ]
    answers = missing.get("missing_program_specific_attributes")
    for entry in answers if isinstance(answers, list) else ():
        if isinstance(entry, dict):
            field = f"enrollment.program_specific_attributes.{entry.get('name')}"
            message = _first_text(entry, "error") or "required"
            found.append(FieldError(field=field, message=message, type="missing"))
    for name, value in missing.items():
        if value is True and isinstance(name, str):
            kind, _, field = name.partition("_")
            found.append(FieldError(field=f"enrollment.{field}", message=kind, type=kind))
    return tuple(found)
