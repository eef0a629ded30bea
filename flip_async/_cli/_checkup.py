"""What a check has found, and how it is told."""

from collections.abc import Sequence
from typing import Final, Literal

import attrs
from rich.console import Console
from rich.text import Text

from flip_async._cli._output import plain, print_json

Status = Literal["ok", "warning", "failed", "skipped"]

_STYLES: Final[dict[Status, str]] = {
    "ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim",
}  # fmt: skip


@attrs.frozen
class Finding:
    """What a check has found.

    Attributes:
        check: What was looked at.
        status: Whether it is well.
        message: What is there, or what is wrong.
        advice: What to do.
    """

    check: str
    status: Status
    message: str
    advice: str | None = None

    def print(self) -> None:
        """Print it as one line."""
        told = self.message if self.advice is None else f"{self.message}: {self.advice}"
        line = Text.assemble(
            (f"{self.status:8}", _STYLES[self.status]), f"{self.check:12} {plain(told)}"
        )
        Console(highlight=False).print(line, soft_wrap=True)


def fine(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, advice: str) -> Finding:
    """It works, and something else will not."""
    return Finding(check, "warning", message, advice)


def failed(check: str, message: str, advice: str | None) -> Finding:
    """It does not work; the message may tell the way out itself."""
    return Finding(check, "failed", message, advice)


def skipped(check: str, message: str) -> Finding:
    """It was not looked at."""
    return Finding(check, "skipped", message)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print all of them as one document of JSON."""
    print_json(
        {
            "ok": all(finding.status != "failed" for finding in findings),
            "checks": [attrs.asdict(finding) for finding in findings],
        }
    )
