"""JSON Lines and JSON arrays: one bad row costs that row."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flip_async._cli._json import JsonRows
from flip_async._cli._rows import Broken, FileError
from flip_async._cli._text import Text
from flip_async.models import UNSET
from tests.support.history import outcomes

SOC = "battery_last_state_of_charge_percentage"


def row(minute: int, **fields: Any) -> str:
    start = f"2025-01-01T00:{minute:02}:00Z"
    return json.dumps({"device_id": "b0", "start_time": start, "duration_s": 300} | fields)


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def array(*texts: str) -> bytes:
    return ("[\n " + ",\n ".join(texts) + "\n]\n").encode()


BOMB = "[" * 100_000
DEEP = row(5, oem_raw_data=1).replace("1}", '{"a":' * 800 + "1" + "}" * 800 + "}")
CUT = row(5)[:40]


@pytest.mark.parametrize(
    ("content", "sent", "refused", "reason"),
    [
        pytest.param(lines(row(0), CUT, row(10)), [1, 3], [2], "no JSON", id="line-cut"),
        pytest.param(lines(row(0), "", row(5, duration_s=-1)), [1], [3], "at least 0", id="blank"),
        pytest.param(lines(row(0), BOMB, row(10)), [1, 3], [2], "too deep", id="bomb"),
        pytest.param(lines(BOMB, row(10)), [2], [1], "too deep", id="bomb-first"),
        pytest.param(lines(row(0), DEEP), [1], [2], "too deep", id="deep-raw-data"),
        pytest.param(lines(row(0), "[1]", "7"), [1], [2, 3], "no JSON object", id="no-object"),
        pytest.param(lines(row(0) + row(5), row(10)), [2], [1], "Extra data", id="two-in-a-line"),
        pytest.param(
            lines(row(0), row(5)[:-1] + ', "duration_s": 1}'), [1], [2],
            "two values have one name, 'duration_s'", id="one-name-twice",
        ),
        pytest.param(
            lines(row(0), row(5, last_mode="X")).replace(b"X", b"\xb0"), [1], [2],
            "no UTF-8 (0xb0", id="unreadable-byte",
        ),
        pytest.param(
            lines(row(0), row(5, last_mode="\ud83d")), [1], [2], "half a surrogate pair", id="half"
        ),
        pytest.param(
            lines(row(0), row(5, solar_last_power_w=10**400)), [1], [2], "bits", id="huge-number"
        ),
        pytest.param(lines(row(0), row(5, soc=80), row(10)), [1, 3], [2], "soc", id="later-key"),
        pytest.param(
            lines(json.dumps({"device_id": "b0", "duration_s": 300}), row(5)), [2], [1],
            "start_time: is missing", id="first-row-incomplete",
        ),
        pytest.param(lines(row(0, **{SOC: float("inf")})), [], [1], "finite", id="infinite"),
        pytest.param(array(row(0), CUT, row(10)), [2, 4], [3], "no JSON", id="array-with-a-cut"),
        pytest.param(array(row(0), CUT), [2], [3], "no JSON", id="array-with-a-cut-at-its-end"),
        pytest.param(array(row(0), BOMB, row(10)), [2, 4], [3], "too deep", id="array-with-a-bomb"),
        pytest.param(array(row(0), "7"), [2], [3], "no JSON object", id="array-of-others"),
        pytest.param(
            f"[{row(0)},{row(5).replace('300', '3x0')},{row(10)}]".encode(), [1], [1], "no JSON",
            id="array-of-one-line",
        ),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_with_its_line_and_the_others_are_read(
    tmp_path: Path, content: bytes, sent: list[int], refused: list[int], reason: str
) -> None:
    path = tmp_path / "h.json"
    path.write_bytes(content)

    points, reasons = outcomes(path)

    assert sorted(points) == sent
    assert sorted(reasons) == refused
    assert all(reason in text for text in reasons.values())


@pytest.mark.parametrize(
    "content",
    [
        lines(row(0), row(5)),
        array(row(0), row(5)),
        f"[{row(0)}, {row(5)}]".encode(),
        json.dumps([json.loads(row(n)) for n in (0, 5)], indent=2).encode("utf-16"),
        b"\xef\xbb\xbf" + lines(row(0), row(5)),
        gzip.compress(array(row(0), row(5))),
    ],
    ids=["lines", "array", "array-in-a-line", "pretty-utf-16", "bom", "gzip"],
)
def test_lines_and_arrays_are_told_apart(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(content)

    with JsonRows(Text(path, None)) as rows:
        found = [found for _, found in rows]

    assert found == [json.loads(row(0)), json.loads(row(5))]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[\n" + lines(row(0) + ",", CUT), "line 3: what begins here has no end"),
        (b"[\n" + lines(row(0) + ","), "line 3: the array is not closed"),
        (array(row(0)) + b"more", "line 4: something stands behind the end"),
        (json.dumps(json.loads(row(0)), indent=1).encode(), "goes on over several lines"),
        (lines(json.dumps({"telemetry": [1]})), "there are telemetry"),
        (lines(row(0, soc=1), row(5, soc=2)), "no field of telemetry: soc"),
    ],
)
def test_what_is_wrong_with_the_whole_file_is_a_message(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "h.json"
    path.write_bytes(content)

    with pytest.raises(FileError) as caught:
        outcomes(path)

    assert says in str(caught.value)


def test_values_are_what_a_database_means_by_them(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(
        lines(
            row(0, device_id=12345, last_is_online=1, oem_raw_data=None),
            row(5, oem_raw_data={"a": float("nan")}, **{SOC: float("nan")}),
            row(10, oem_raw_data='{"a": 1}', solar_last_power_w="50.5"),
        )
    )

    points, refused = outcomes(path)

    assert refused == {}
    assert points[1].device_id == "12345"
    assert points[1].last_is_online is True
    assert points[1].oem_raw_data is UNSET
    assert points[2].oem_raw_data == {"a": None}
    assert getattr(points[2], SOC) is None
    assert points[3].oem_raw_data == {"a": 1}
    assert points[3].solar_last_power_w == 50.5


def test_an_array_of_one_line_is_read_in_constant_memory(tmp_path: Path) -> None:
    """As json.dump writes it: what is held is a window, not the file."""
    path = tmp_path / "h.json"
    path.write_text(json.dumps([json.loads(row(n % 60)) for n in range(20_000)]))

    longest = 0
    with JsonRows(Text(path, None)) as rows:
        for count, (line, found) in enumerate(rows, start=1):
            assert line == 1
            assert not isinstance(found, Broken)
            longest = count

    assert longest == 20_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), max_size=8),
    indent=st.sampled_from([None, 0, 1, 4]),
    cuts=st.booleans(),
    data=st.data(),
)
def test_what_a_writer_of_json_wrote_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Any],
    indent: int | None,
    cuts: bool,
    data: Any,
) -> None:
    """And where the file is cut off, the rows before the cut are, or there is a message."""
    text = json.dumps(rows, indent=indent)
    if cuts:
        text = text[: data.draw(st.integers(0, len(text)))]
    path = tmp_path_factory.mktemp("json") / "h.json"
    path.write_text(text)

    found: list[Any] = []
    with JsonRows(Text(path, None)) as reader:
        try:
            found.extend(row for _, row in reader)
        except FileError:
            assert cuts

    whole = [row for row in found if not isinstance(row, Broken)]
    assert whole == rows[: len(whole)]
    assert cuts or whole == rows


def test_a_mapped_value_may_come_late(tmp_path: Path) -> None:
    """Where only some devices have it; a name that looks mistyped ends the run."""
    path = tmp_path / "h.jsonl"
    rows = [row(0, PV_Power=1)] + [row(n % 60) for n in range(4100)] + [row(0, solar=5)]
    path.write_bytes(lines(*rows))

    points, _ = outcomes(path, column=("solar_last_power_w=solar",), ignore_unknown=True)

    assert points[4102].solar_last_power_w == 5
    with pytest.raises(FileError, match="is it PV_Power"):
        outcomes(path, column=("solar_last_power_w=pv-power",), ignore_unknown=True)
