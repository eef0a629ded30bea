"""Which rows are settled, and where the next run goes on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_async._cli._journal import Journal, Settled
from flip_async._cli._rows import FileError


@given(st.lists(st.sets(st.integers(1, 40), max_size=12), max_size=6))
def test_what_is_settled_is_what_was_settled(blocks: list[set[int]]) -> None:
    """In any order, in any parts: no row is forgotten, and none counts that is open."""
    settled, expected = Settled(), set[int]()

    for block in blocks:
        settled = settled.with_rows(sorted(block), read=[(row, row + 1, {}) for row in block])
        expected |= block

        assert {row for row in range(1, 45) if settled.has(row)} == expected
        assert set(range(1, settled.rows + 1)) <= expected
        assert settled.rows + 1 not in expected


def test_a_journal_gives_back_what_was_saved(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    file.write_text("device_id\n")
    journal = Journal.beside(file, "options")
    settled = Settled(rows=5, line=7, beyond=((9, 12), (20, 20)), refused=2, listed_bytes=99)

    journal.save(settled)

    assert Journal.beside(file, "options").settled() == settled
    with pytest.raises(FileError, match="other options"):
        Journal.beside(file, "others").settled()
    file.write_text("device_ie\n")
    with pytest.raises(FileError, match="--restart"):
        Journal.beside(file, "options").settled()


def test_a_journal_in_which_nothing_is_settled_belongs_to_nobody(tmp_path: Path) -> None:
    """It is written to find out that it can be."""
    file = tmp_path / "h.csv"
    file.write_text("device_id\n")

    Journal.beside(file, "options").save(Settled())

    assert Journal.beside(file, "others").settled() == Settled()


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"identity": 1, "rows_done": null}'])
def test_a_journal_that_cannot_be_read_says_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "h.csv"
    file.write_text("device_id\n")
    journal = Journal.beside(file)
    journal.path.write_text(text)

    with pytest.raises(FileError, match="delete it"):
        journal.settled()


def test_a_journal_that_cannot_be_written_says_so_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "h.csv"
    file.write_text("device_id\n")
    journal = Journal.beside(file)
    journal.path.with_name(f"{journal.path.name}.new").mkdir()

    with pytest.raises(FileError, match=r"cannot write .*h\.csv\.flip-progress"):
        journal.save(Settled())


def test_a_pipe_has_no_journal(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="it is a folder"):
        Journal.beside(tmp_path)
    with pytest.raises(FileError, match="flip telemetry send"):
        Journal.beside(Path("/dev/null"))
