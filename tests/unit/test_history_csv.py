"""CSV as loggers, spreadsheets and databases write it: read as it was meant, or refused by line."""

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_async._cli._csv import CsvRows
from flip_async._cli._rows import Broken, FileError
from flip_async._cli._text import Text
from tests.support.history import outcomes

SOC = "battery_last_state_of_charge_percentage"
SOLAR = "solar_last_power_w"
HEAD = "device_id,start_time,duration_s"


def at(minute: int, *more: str, separator: str = ",") -> str:
    return separator.join(["b0", f"2025-01-01T00:{minute:02}:00Z", "300", *more])


def text(*lines: str, end: str = "\n") -> bytes:
    return "".join(line + end for line in lines).encode()


PLAIN = text(HEAD, at(0), at(5))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PLAIN, id="plain"),
        pytest.param(text(HEAD, at(0), at(5), end="\r\n"), id="windows"),
        pytest.param(text(HEAD, at(0), at(5), end="\r"), id="old-mac"),
        pytest.param(PLAIN.rstrip(), id="no-last-line-end"),
        pytest.param(PLAIN.replace(b",", b";"), id="semicolons"),
        pytest.param(PLAIN.replace(b",", b"\t"), id="tabs"),
        pytest.param(PLAIN.replace(b",", b"|"), id="pipes"),
        pytest.param(b"sep=;\r\n" + PLAIN.replace(b",", b";"), id="sep-line"),
        pytest.param(b'"sep=^"\n' + PLAIN.replace(b",", b"^"), id="odd-separator"),
        pytest.param(b"\xef\xbb\xbf" + PLAIN, id="utf-8-bom"),
        pytest.param(PLAIN.decode().encode("utf-16"), id="utf-16"),
        pytest.param(b"\xfe\xff" + PLAIN.decode().encode("utf-16-be"), id="utf-16-be"),
        pytest.param(PLAIN.decode().encode("utf-16-le"), id="utf-16-no-bom"),
        pytest.param(PLAIN.decode().encode("utf-32"), id="utf-32"),
        pytest.param(gzip.compress(PLAIN), id="gzip-whatever-its-name"),
        pytest.param(text(HEAD + ",", at(0) + ",", at(5) + ","), id="separator-at-the-end"),
        pytest.param(PLAIN.replace(b",", b" , "), id="blanks"),
        pytest.param(
            text(*(f'"{line.replace(",", chr(34) + "," + chr(34))}"' for line in (HEAD, at(0), at(5)))),
            id="all-in-quotes",
        ),
    ],
)  # fmt: skip
def test_a_dialect_is_read_as_it_was_meant(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "h.csv"
    path.write_bytes(content)

    points, refused = outcomes(path)

    assert refused == {}
    assert [point.start_time.minute for point in points.values()] == [0, 5]
    assert {point.device_id for point in points.values()} == {"b0"}


NOTE = HEAD + ",note"


@pytest.mark.parametrize(
    ("content", "lines", "refused", "reason"),
    [
        pytest.param(
            text(NOTE, at(0, "x"), at(5, '"replaced fuse'), at(10, "x")), [2, 4], [3], "quote",
            id="quote-never-closed",
        ),
        pytest.param(
            text(NOTE, at(0, '"'), at(5, "x"), at(10, '"'), at(15, "x")), [3, 5], [2, 4], "quote",
            id="two-quotes-never-closed-swallow-no-row-between",
        ),
        pytest.param(
            text(NOTE, at(0, '"one'), 'two"', at(5, "x")), [2, 4], [], "", id="cell-of-two-lines"
        ),
        pytest.param(
            text(NOTE, at(0, '5" pipe'), at(5, '"a"b'), at(10, '"a""b"')), [4], [2, 3], "middle",
            id="quote-in-a-cell",
        ),
        pytest.param(text(NOTE, at(0, "x"), at(5)), [2], [3], "has 3 cells", id="too-few"),
        pytest.param(
            text(NOTE, at(0, "x"), at(5, "1", "2")), [2], [3], "decimal comma", id="too-many"
        ),
        pytest.param(
            text(HEAD + ",", at(0, "x"), at(5, "")), [3], [2], "without a name",
            id="value-without-a-column",
        ),
        pytest.param(
            text("", "", HEAD, "", at(0), " ", at(5).replace("300", "-1")), [5], [7], "at least 0",
            id="blank-lines-count",
        ),
        pytest.param(
            text(HEAD, at(0)) + b"\0" * 99 + text("", at(5)), [2, 4], [3], "bytes that are 0",
            id="cut-off-by-a-power-failure",
        ),
        pytest.param(
            text(NOTE, at(0, "x")) + at(5, "25 °C\n").encode("latin-1"), [2], [3],
            "--encoding latin-1", id="one-byte-that-is-no-utf-8",
        ),
        pytest.param(
            text(NOTE, at(0, "x"), at(5, "QQ"), at(10, "x")).decode().encode("utf-16")
            .replace("QQ".encode("utf-16-le"), b"\x00\xd8Q\x00"),
            [2, 4], [3], "no UTF-16", id="half-a-pair-in-utf-16",
        ),
        pytest.param(
            text(NOTE, at(0, "x" * 140_000), at(5, f'"{"y" * 140_000}"')), [2, 3], [], "",
            id="long-cells",
        ),
    ],
)  # fmt: skip
def test_a_line_that_is_no_row_of_the_header_is_refused_alone(
    tmp_path: Path, content: bytes, lines: list[int], refused: list[int], reason: str
) -> None:
    path = tmp_path / "h.csv"
    path.write_bytes(content)

    points, reasons = outcomes(path, ignore_unknown=True)

    assert list(points) == lines
    assert list(reasons) == refused
    assert all(reason in text for text in reasons.values())


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (text(HEAD + ",a,a", at(0, "1", "2")), {}, "two columns have one name, a (columns 4 and 5)"),
        (text(HEAD + ",device_id", at(0, "2")), {"ignore_unknown": True}, "columns 1 and 4"),
        (text("Zeit,Seriennummer"), {}, "there are Zeit, Seriennummer"),
        (text("," + HEAD, "0," + at(0)), {}, "no field of telemetry: column 1"),
        (text(HEAD + ",Solar_W", at(0, "1")), {"column": ("solar_last_power_w=SolarW",)},
         "no column SolarW (is it Solar_W?)"),
        (text(HEAD + ",kw", at(0, "1")), {"column": ("solar_last_power_w=kw:KW",)}, ":kW"),
        (text(HEAD, at(0)), {"column": ("solar_last_power_w=x:kWh",)}, "its units are W, kW, MW"),
        (text(HEAD, at(0)), {"column": ("device_id=a", "device_id=b")}, "given twice"),
        (text(HEAD, at(0)), {"set": ("duration_s=5",)}, "leave out --set duration_s"),
        (text(HEAD, at(0)), {"set": ("last_is_online=perhaps",)}, "true or false"),
        (text(HEAD, at(0)), {"set": ("solar_last_power_w=-1",)}, "at least 0"),
        (text(HEAD, at(0)), {"encoding": "klingon"}, "--encoding klingon is not known"),
        (text(HEAD, at(0)), {"encoding": "base64"}, "is not known"),
        (text(HEAD, at(0)), {"separator": "ab"}, "is one character"),
        ((HEAD + ",T °C\n").encode("latin-1"), {}, "line 1, the header, has a byte that is no UTF-8"),
        (text(HEAD + ',"note'), {}, "line 1, the header, has a quote that is not closed"),
        (b"", {}, "is empty"),
        (b"PK\x03\x04...", {}, "a zip file or a spreadsheet"),
        (b"PAR1...", {}, "pass --format parquet"),
        (gzip.compress(PLAIN * 99)[:-15], {}, "behind line"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_whole_file_is_a_message(
    tmp_path: Path, content: bytes, options: dict[str, Any], says: str
) -> None:
    path = tmp_path / "h.csv"
    path.write_bytes(content)

    with pytest.raises(FileError) as caught:
        outcomes(path, **options)

    assert says in str(caught.value)


@pytest.mark.parametrize(
    "word", ["", "NaN", "null", "None", "n/a", "#N/A", r"\N", "<NA>", "unavailable"]
)
def test_a_word_for_nothing_is_null(tmp_path: Path, word: str) -> None:
    path = tmp_path / "h.csv"
    path.write_bytes(text(f"{HEAD},{SOC},last_is_online", at(0, word, word)))

    points, refused = outcomes(path)

    assert refused == {}
    assert getattr(points[2], SOC) is None
    assert points[2].last_is_online is None


@pytest.mark.parametrize(
    ("cells", "separator", "decimal", "expected"),
    [
        (["50.5", "1.234"], ",", None, [50.5, 1.234]),
        (["50,5", "1.234"], ";", None, [50.5, 1234.0]),
        (["1.234,5", "1.234.567,5"], ";", None, [1234.5, 1234567.5]),
        (["1,234.5", "1,234"], "\t", None, [1234.5, 1234.0]),
        (["1,234"], ";", None, [1.234]),
        (["1.234", "950"], ";", None, [None, 950.0]),
        (["1.234", "0.950"], ";", None, [1.234, 0.95]),
        (["1.234"], ",", None, [1.234]),
        (["1,234"], "\t", None, [None]),
        (["1,234"], "\t", "point", [1234.0]),
        (["1,234"], "\t", "comma", [1.234]),
        (["50,5", "50.25", "1.234"], ";", None, [50.5, 50.25, None]),
        (["0,123"], "\t", None, [0.123]),
        (["300", "-0", "1e3"], ";", None, [300.0, 0.0, 1000.0]),
        (["1_000"], ";", None, [None]),
        (["2.2 kW"], ";", None, [None]),
        (["inf"], ";", None, [None]),
    ],
)
def test_a_number_has_the_decimal_mark_of_its_file_or_is_refused(
    tmp_path: Path, cells: list[str], separator: str, decimal: Any, expected: list[float | None]
) -> None:
    """1.234 is a thousand and more in one country, a little more than 1 in another."""
    path = tmp_path / "h.csv"
    head = f"{HEAD},{SOLAR}".replace(",", separator)
    path.write_bytes(
        text(head, *(at(n, cell, separator=separator) for n, cell in enumerate(cells)))
    )

    points, refused = outcomes(path, decimal=decimal)

    found = {line: getattr(point, SOLAR) for line, point in points.items()}
    assert [found.get(line) for line in range(2, len(cells) + 2)] == expected
    assert len(found) + len(refused) == len(cells)


def write_dialect(rows: list[list[str]], separator: str, quoting: Any, end: str) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end).writerows(rows)
    return file.getvalue()


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=20)


@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=6),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    pack=st.sampled_from([bytes, gzip.compress]),
)
def test_what_a_writer_of_csv_wrote_is_read_or_refused_never_changed(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    separator: str,
    quoting: Any,
    end: str,
    encoding: str,
    pack: Callable[[bytes], bytes],
) -> None:
    """Whatever is in the cells: a row comes out as it was written, or as broken."""
    header = ["device_id", "start_time"]
    path = tmp_path_factory.mktemp("csv") / "h.csv"
    path.write_bytes(pack(write_dialect([header, *rows], separator, quoting, end).encode(encoding)))

    with CsvRows(Text(path, None), separator) as found:
        assert found.header() == tuple(header)
        read = [row for _, row in found]

    written = [dict(zip(header, row, strict=True)) for row in rows]
    whole = [row for row in read if not isinstance(row, Broken)]
    assert all(row in written for row in whole)
    if not any("\n" in cell or '"' in cell for row in rows for cell in row):
        assert whole == written


def test_rows_that_no_switch_can_mend_are_listed_however_many(tmp_path: Path) -> None:
    """A device that measures nonsense for 30 days must not hold up the others."""
    path = tmp_path / "h.csv"
    path.write_bytes(text(HEAD, *[at(0).replace("300", "-1")] * 8_640, at(5)))

    points, refused = outcomes(path)

    assert list(points) == [8_642]
    assert len(refused) == 8_640


def test_a_file_that_needs_a_switch_is_not_listed_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    path.write_bytes(text(HEAD, *[at(0).replace("Z", "")] * 5_000))

    with pytest.raises(FileError, match="none of the first 4,000 rows .* --time-zone"):
        outcomes(path)
