"""`flip` within the process of the test."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from flip_async._cli import run


@attrs.frozen
class Ended:
    """How a subcommand ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Runs subcommands one after the other; what it is given as variables stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def set(self, variables: Mapping[str, str | None]) -> None:
        for name, value in variables.items():
            if value is None:
                self._monkeypatch.delenv(name, raising=False)
            else:
                self._monkeypatch.setenv(name, value)

    def __call__(self, *arguments: str, **variables: str | None) -> Ended:
        self.set(variables)
        self._monkeypatch.setattr(sys, "argv", ["flip", *arguments])
        self._capsys.readouterr()
        code = run()
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return Ended(code, out, err)
