"""Draw the life of a token from the code: run it after a change to the life cycle.

    python docs/_life_diagram.py

Every arrow is found by driving `Lifecycle` from each age through each event; only the
places of the boxes are chosen by hand. A test compares the file with what this draws.
"""

from collections.abc import Callable
from pathlib import Path

from flip_async._auth._decisions import Age, Failure
from flip_async._auth._lifecycle import Lifecycle
from flip_async._auth._token import Token
from flip_async._clock import Instant
from flip_async._secret import Secret
from flip_async.errors import TokenUnavailableError

TARGET = Path(__file__).parent / "explanation" / "token-life.svg"
START = Instant(0.0, 0.0)
LIFETIME_S = 100.0
MOMENTS = {Age.ABSENT: 0.0, Age.FRESH: 10.0, Age.STALE: 90.0, Age.EXPIRED: 110.0}
BOXES = {
    Age.ABSENT: (130, 75, "absent", "requests wait for a refresh"),
    Age.FRESH: (670, 75, "fresh", "requests use it"),
    Age.STALE: (670, 300, "stale", "requests use it, one refresh beside them"),
    Age.EXPIRED: (130, 300, "expired", "requests wait for a refresh"),
}
ROUTE = ("GET", b"/v1/sites")


def token(value: str) -> Token:
    return Token(access_token=Secret(value), issued_at=START.wall_s, lifetime_s=LIFETIME_S)


def at_age(age: Age) -> tuple[Lifecycle, Instant]:
    life = Lifecycle()
    if age is not Age.ABSENT:
        life.refreshed(token("now"), START, START)
    now = START.later(MOMENTS[age])
    assert life.age(now) is age
    return life, now


def refreshed(life: Lifecycle, now: Instant) -> Instant:
    life.refreshed(token("new"), now, now)
    return now


def failed(life: Lifecycle, now: Instant) -> Instant:
    life.failed(
        Failure(TokenUnavailableError("down"), retryable=True),
        began=now.monotonic_s,
        now=now,
        luck=0.5,
    )
    return now


def rejected(life: Lifecycle, now: Instant) -> Instant:
    life.rejected(token("now"), ROUTE, now)
    return now


def late(life: Lifecycle, now: Instant) -> Instant:
    life.rejected(token("older"), ROUTE, now)
    return now


def invalidated(life: Lifecycle, now: Instant) -> Instant:
    life.invalidate(now)
    return now


def at(share: float) -> Callable[[Lifecycle, Instant], Instant]:
    def passed(life: Lifecycle, now: Instant) -> Instant:
        return START.later(max(now.monotonic_s, LIFETIME_S * share))

    return passed


EVENTS: dict[str, Callable[[Lifecycle, Instant], Instant]] = {
    "refreshed": refreshed,
    "refresh fails": failed,
    "401 to it": rejected,
    "late 401 to an older one": late,
    "invalidate()": invalidated,
    "80 % of its life": at(0.8),
    "end of its life": at(1.0),
}
# Time passes one border at a time, and what is not there is not refused.
HAPPENS_ONLY_AT = {
    "80 % of its life": {Age.FRESH},
    "end of its life": {Age.STALE},
    "401 to it": {Age.FRESH, Age.STALE, Age.EXPIRED},
}


def transitions() -> dict[tuple[Age, Age], list[str]]:
    """What leads from where to where, as the code has it."""
    found: dict[tuple[Age, Age], list[str]] = {}
    for age in Age:
        for name, event in EVENTS.items():
            if age in HAPPENS_ONLY_AT.get(name, Age):
                life, now = at_age(age)
                now = event(life, now)
                found.setdefault((age, life.age(now)), []).append(name)
    return found


def label(lines: list[str], x: float, y: float, anchor: str = "middle") -> str:
    return "".join(
        f'<text x="{x}" y="{y + 15 * number}" text-anchor="{anchor}" class="event">{line}</text>'
        for number, line in enumerate(lines)
    )


# From where to where an arrow is drawn, and the place of its label.
ARROWS: dict[tuple[Age, Age], tuple[str, float, float, str]] = {
    (Age.ABSENT, Age.FRESH): ("M 257 50 L 541 50", 399, 42, "middle"),
    (Age.FRESH, Age.ABSENT): ("M 543 75 L 259 75", 399, 92, "middle"),
    (Age.FRESH, Age.STALE): ("M 650 128 L 650 248", 640, 190, "end"),
    (Age.STALE, Age.FRESH): ("M 690 248 L 690 128", 700, 190, "start"),
    (Age.STALE, Age.EXPIRED): ("M 543 310 L 259 310", 399, 328, "middle"),
    (Age.EXPIRED, Age.ABSENT): ("M 100 248 L 100 136", 90, 186, "end"),
    (Age.EXPIRED, Age.FRESH): ("M 240 248 L 556 130", 300, 240, "start"),
    (Age.STALE, Age.ABSENT): ("M 556 248 L 240 138", 452, 240, "middle"),
}


def draw() -> str:
    """The picture."""
    found = transitions()
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 345" role="img" '
        'aria-label="The four ages of a token and what leads from one to another">',
        "<style>text{font-family:sans-serif;font-size:12px;fill:#222}.age{font-size:16px;"
        "font-weight:bold}.event{fill:#444}rect{fill:#eef5ff;stroke:#3b6ea5}"
        "path{stroke:#3b6ea5;fill:none;marker-end:url(#tip)}</style>",
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M 0 0 L 10 5 L 0 10 z" '
        'style="fill:#3b6ea5;marker-end:none"/></marker></defs>',
        '<rect x="0" y="0" width="800" height="345" style="fill:#fff;stroke:none"/>',
    ]
    for (source, target), events in found.items():
        if source is not target:
            path, x, y, anchor = ARROWS[source, target]
            parts += [f'<path d="{path}"/>', label(events, x, y, anchor)]
    for age, (x, y, name, what) in BOXES.items():
        stays = [f"stays: {event}" for event in found.get((age, age), [])]
        top = y - 20 - 8 * len(stays)
        height = 44 + 16 * len(stays)
        parts += [
            f'<rect x="{x - 125}" y="{top}" width="250" height="{height}" rx="10"/>',
            f'<text x="{x}" y="{top + 18}" text-anchor="middle" class="age">{name}</text>',
            f'<text x="{x}" y="{top + 35}" text-anchor="middle">{what}</text>',
            label(stays, x, top + 52),
        ]
    parts.append("</svg>\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
    print(TARGET)
