"""Draw the life of a token along the time: run it after a change to the life cycle.

    python docs/_timeline.py

Every moment in the picture is found by driving `Lifecycle` with a token of 300 s; luck, which
draws pauses at random, is one half throughout. A test compares the file with what this draws.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flip_async._auth._decisions import Failure, GiveUp, Refuse, Use, Wait
from flip_async._auth._lifecycle import Lifecycle
from flip_async._auth._token import Token
from flip_async._clock import Instant
from flip_async._secret import Secret
from flip_async.errors import TokenUnavailableError

TARGET = Path(__file__).parent / "explanation" / "token-timeline.svg"
LIFETIME_S = 300.0
END_S = 400.0
START = Instant(0.0, 0.0)
ROUTE = ("GET", b"/v1/sites")
LUCK = 0.5
NAMES = ("first_token", "second_token")
COLOURS = {"first_token": "#3b6ea5", "second_token": "#2f8f5b", "wait": "#b7791f"}
FAILS = "#b03a3a"


class Span(NamedTuple):
    """What requests do from one moment to another."""

    begin_s: float
    end_s: float
    what: str


class Row(NamedTuple):
    """One story: what requests do, when the token endpoint was asked, and whether it answered."""

    title: str
    spans: list[Span]
    asked: list[tuple[float, bool]]


class Story:
    """Drives a life cycle through time, and writes down what requests do."""

    def __init__(self) -> None:
        self.life = Lifecycle()
        self.now_s = 0.0
        self.spans: list[Span] = []
        self.asked: list[tuple[float, bool]] = []
        self._tokens = 0
        self.fetch(0.0)

    @property
    def now(self) -> Instant:
        return START.later(self.now_s)

    def fetch(self, at_s: float) -> None:
        """The token endpoint gives a token."""
        self.go_to(at_s)
        name = NAMES[self._tokens]
        self._tokens += 1
        token = Token(access_token=Secret(name), issued_at=at_s, lifetime_s=LIFETIME_S)
        self.life.refreshed(token, self.now, self.now)
        self.asked.append((at_s, True))

    def fail_until(self, is_up_at_s: float) -> None:
        """It gives none: ask as often as the life cycle says, until it does or all give up."""
        began = self.now_s
        while self.now_s < is_up_at_s:
            self.asked.append((self.now_s, False))
            failure = Failure(TokenUnavailableError("down"), retryable=True)
            match self.life.failed(failure, began=began, now=self.now, luck=LUCK):
                case GiveUp():
                    # The next request that is not refused begins again.
                    while isinstance(self.life.decide(self.now), Refuse) and self.now_s < END_S:
                        self.go_to(self.now_s + 0.1)
                    began = self.now_s
                case pause:
                    self.go_to(self.now_s + pause.seconds)
        if self.now_s < END_S:
            self.fetch(self.now_s)

    def go_to(self, at_s: float) -> None:
        """Let time pass, by tenths of a second, and see what a request would do."""
        at_s = min(at_s, END_S)
        for tenth in range(round(self.now_s * 10), round(at_s * 10)):
            self._note(tenth / 10, self._does(START.later(tenth / 10)))
        self.now_s = at_s

    def _does(self, now: Instant) -> str:
        match self.life.decide(now):
            case Use(token):
                return token.access_token.reveal()
            case Wait():
                return "wait"
            case Refuse():
                return "fail"

    def _note(self, at_s: float, what: str) -> None:
        if self.spans and self.spans[-1].what == what:
            self.spans[-1] = self.spans[-1]._replace(end_s=at_s + 0.1)
        else:
            self.spans.append(Span(at_s, at_s + 0.1, what))

    def stale_at(self) -> float:
        """When the token at hand asks for its successor."""
        in_s = self.life.unasked_refresh_in_s(self.now)
        assert in_s is not None
        return self.now_s + in_s


def all_is_well(story: Story) -> None:
    story.fetch(story.stale_at())


def down_for_a_while(story: Story) -> None:
    story.go_to(story.stale_at())
    story.fail_until(is_up_at_s=275)


def down_for_good(story: Story) -> None:
    story.go_to(story.stale_at())
    story.fail_until(is_up_at_s=END_S)


def revoked(story: Story) -> None:
    story.go_to(120)
    first = Token(access_token=Secret(NAMES[0]), issued_at=0, lifetime_s=LIFETIME_S)
    assert story.life.rejected(first, ROUTE, story.now)
    story.fetch(120)


STORIES: dict[str, Callable[[Story], None]] = {
    "All is well": all_is_well,
    "The token endpoint is down until 275 s": down_for_a_while,
    "The token endpoint stays down": down_for_good,
    "The token is revoked at 120 s": revoked,
}


def rows() -> list[Row]:
    """The stories, told by the code."""
    found = []
    for title, tell in STORIES.items():
        story = Story()
        tell(story)
        story.go_to(END_S)
        found.append(Row(title, story.spans, story.asked))
    return found


def x_of(at_s: float) -> float:
    return round(20 + 760 * at_s / END_S, 1)


def draw_row(row: Row, top: int) -> list[str]:
    parts = [f'<text x="20" y="{top}" class="title">{row.title}</text>']
    for begin_s, end_s, what in row.spans:
        x, width = x_of(begin_s), max(2.0, round(x_of(end_s) - x_of(begin_s), 1))
        colour = COLOURS.get(what, FAILS)
        parts.append(f'<rect x="{x}" y="{top + 8}" width="{width}" height="22" fill="{colour}"/>')
        label = f"requests use the {what.replace('_', ' ')}" if what in NAMES else f"they {what}"
        if width > 7 * len(label):
            x_of_label = round(x + width / 2, 1)
            parts.append(f'<text x="{x_of_label}" y="{top + 23}" class="on">{label}</text>')
    for at_s, is_answered in row.asked:
        colour = COLOURS["second_token"] if is_answered else FAILS
        parts.append(f'<circle cx="{x_of(at_s)}" cy="{top + 40}" r="4" fill="{colour}"/>')
    return parts


def legend(top: int) -> list[str]:
    points = (
        (COLOURS["second_token"], "the token endpoint was asked, and gave a token"),
        (FAILS, "it was asked, and gave none"),
    )
    bars = ((COLOURS["wait"], "requests wait"), (FAILS, "requests fail at once"))
    parts = []
    for number, (colour, label) in enumerate(points):
        y = top + 4 + 20 * number
        parts += [
            f'<circle cx="26" cy="{y}" r="4" fill="{colour}"/>',
            f'<text x="38" y="{y + 4}">{label}</text>',
        ]
    for number, (colour, label) in enumerate(bars):
        y = top + 4 + 20 * number
        parts += [
            f'<rect x="400" y="{y - 6}" width="24" height="12" fill="{colour}"/>',
            f'<text x="432" y="{y + 4}">{label}</text>',
        ]
    return parts


def draw() -> str:
    """The picture."""
    drawn = rows()
    bottom = 60 + 66 * len(drawn)
    well = drawn[0].asked[1][0]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {bottom + 50}" role="img" '
        'aria-label="What requests do while a token lives, is replaced, and cannot be replaced">',
        "<style>text{font-family:sans-serif;font-size:12px;fill:#222}.title{font-weight:bold}"
        ".on{fill:#fff;text-anchor:middle}.time{text-anchor:middle;fill:#444}"
        "line{stroke:#999;stroke-dasharray:3 3}</style>",
        f'<rect x="0" y="0" width="800" height="{bottom + 50}" rx="8" fill="#fff"/>',
    ]
    for at_s, label in (
        (0.0, "0 s"),
        (well, f"{well:.0f} s: stale"),
        (LIFETIME_S, "300 s: its end"),
    ):
        x = x_of(at_s)
        anchor = "start" if at_s == 0 else "middle"
        parts += [
            f'<line x1="{x}" x2="{x}" y1="26" y2="{bottom - 20}"/>',
            f'<text x="{x}" y="20" class="time" style="text-anchor:{anchor}">{label}</text>',
        ]
    for number, row in enumerate(drawn):
        parts += draw_row(row, 48 + 66 * number)
    parts += legend(bottom)
    parts.append("</svg>\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(draw(), encoding="utf-8")
    print(TARGET)
