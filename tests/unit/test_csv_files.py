"""Rows from CSV files: well made, oddly made and broken."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from allocation.entrypoints.bulk import csv_files
from allocation.entrypoints.bulk.csv_files import (
    LONGEST_ROW,
    BadCsv,
    Condition,
    Row,
    UnfitColumns,
    escaped,
    opened,
    unescaped,
)

NOT_UTF_8 = "is not text in UTF-8; if the file is in Windows-1252, save it as CSV in UTF-8"
Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: bytes) -> Path:
        path = tmp_path / "file.csv"
        path.write_bytes(content)
        return path

    return write


def rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    with opened(path) as file:
        return [(row.number, dict(row.values)) for row in file]


def fault(path: Path) -> tuple[list[int], str]:
    """The numbers of the rows before the fault, and what is said of it."""
    numbers = []
    try:
        with opened(path) as file:
            for row in file:
                numbers.append(row.number)  # noqa: PERF401 - those before the fault count too
    except BadCsv as error:
        return numbers, str(error)
    pytest.fail("there is no fault")


@pytest.mark.parametrize(
    "content", [b"sku,qty\nCHAIR,1\n", b"sku,qty\r\nCHAIR,1\r\n", b"sku,qty\nCHAIR,1", b'sku,"qty"\n"CHAIR",1\n']
)
def test_reads_lines_as_every_system_writes_them(write: Write, content: bytes) -> None:
    assert rows(write(content)) == [(2, {"sku": "CHAIR", "qty": "1"})]


def test_does_not_take_a_byte_order_mark_for_a_part_of_the_first_name(write: Write) -> None:
    assert rows(write(b"\xef\xbb\xbfsku\nCHAIR\n")) == [(2, {"sku": "CHAIR"})]


def test_unpacks_what_is_gzipped_whatever_its_name(write: Write) -> None:
    assert rows(write(gzip.compress(b"sku\nCHAIR\n"))) == [(2, {"sku": "CHAIR"})]


def test_keeps_commas_quotes_and_line_ends_inside_quotes(write: Write) -> None:
    assert rows(write(b'sku\n"a ""b"", c\nd"\n')) == [(2, {"sku": 'a "b", c\nd'})]


def test_numbers_rows_as_a_spreadsheet_does(write: Write) -> None:
    assert [number for number, _ in rows(write(b'sku\nCHAIR\n\n"TAB\nLE"\nLAMP\n'))] == [2, 4, 5]


@pytest.mark.parametrize(
    ("bad_row", "said"),
    [
        (b"LA\0MP,1\n", "row 3 has a NUL byte"),
        (b'"LA"MP,1\n', "row 3 has quotes that don't match (',' expected after '\"')"),
        (b'"LAMP,1\n', "row 3 has quotes that don't match (unexpected end of data)"),
        (b"LAMP,1\rSOFA,2\n", "row 3 has a carriage return alone; lines must end with LF or CRLF"),
        (b"x" * 131_073 + b",1\n", "row 3 has a field longer than 131,072 characters; is a quote never closed?"),
        (b"," * LONGEST_ROW + b"\n", "row 3 is longer than 1,048,576 bytes; is a quote never closed?"),
        (
            (b'"' + b"x" * 100 + b'\n",') * (LONGEST_ROW // 100),
            "row 3 is longer than 1,048,576 bytes; is a quote never closed?",
        ),
    ],
)
def test_names_the_row_at_fault_and_gives_those_before_it(write: Write, bad_row: bytes, said: str) -> None:
    good = b"sku,qty\nCHAIR,1\n"
    assert fault(write(good + bad_row)) == ([2], said)
    assert fault(write(gzip.compress(good + bad_row))) == ([2], said)


@pytest.mark.parametrize(
    ("bad_row", "said", "values"),
    [
        (b"LAMP,1,2\n", "has 3 fields, but the header has 2", {}),
        (b"LAMP\n", "has 1 fields, but the header has 2", {}),
        (b"L\xc4MP,1\n", NOT_UTF_8, {"sku": "L\ufffdMP", "qty": "1"}),
        (
            b"\xef\xbb\xbfLAMP,1\n",
            "has a byte order mark (U+FEFF); was one file put behind another?",
            {"sku": "\ufeffLAMP", "qty": "1"},
        ),
    ],
)
def test_goes_on_behind_a_row_that_is_at_fault_by_itself(
    write: Write, bad_row: bytes, said: str, values: dict[str, str]
) -> None:
    with opened(write(b"sku,qty\nCHAIR,1\n" + bad_row + b"SOFA,2\n")) as file:
        found = list(file)

    assert found == [Row(2, {"sku": "CHAIR", "qty": "1"}), Row(3, values, said), Row(4, {"sku": "SOFA", "qty": "2"})]
    assert Condition.parse("sku=LAMP").holds(found[1]), "it might be one that is wanted"


@pytest.mark.parametrize(
    "header", [b"ref,sku,qty,eta", b"\xef\xbb\xbfref,sku,qty,eta", b"Ref, SKU,QTY,Eta,", b'"ref","sku","qty","eta",,']
)
def test_refuses_a_header_that_is_there_again_and_goes_on(write: Write, header: bytes) -> None:
    with opened(write(b"ref,sku,qty,eta\nb1,S,7\n" + header + b"\nb2,S,5,2031-01-01\n")) as file:
        file.needed = {"ref", "sku", "qty"}
        again = "is the header again; was one file put behind another?"
        found = [(row.number, row.values["ref"], row.fault) for row in file]
    assert found == [(2, "b1", ""), (3, "ref", again), (4, "b2", "")]


@pytest.mark.parametrize(
    "row",
    [
        b"ref,sku,qty,expires",
        b"\xef\xbb\xbfref,sku,qty,expires",
        b"sku,ref,qty,eta",
        b"ref,sku,qty",
        b"REF,Sku,q_t_y,eta,expires",
        b"ref,sku,qty,Gr\xf6\xdfe",
        b"ref,sku,quantity,expires",
        b"sku,Quantity,ref,eta",
        b"b2,S,5,ref,sku,qty,expires",
        b"b2,S,5,2031-01-01ref,sku,qty,expires",
        b"b2,S,5,\xef\xbb\xbfref,sku,qty,expires",
        b"b2,S,5ref,sku,qty",
    ],
)
def test_reads_nothing_behind_a_header_that_is_another_one(write: Write, row: bytes) -> None:
    with opened(write(b"ref,sku,qty,eta\nb1,S,7,\n" + row + b"\nb3,S,5,2031-01-01\n")) as file:
        file.needed = {"ref", "sku", "qty"}
        found = iter(file)
        assert next(found).number == 2
        with pytest.raises(BadCsv, match=r"^row 3 names the columns anew, and not as row 1 does; was one"):
            next(found)


def test_a_remark_beside_a_row_that_is_not_wanted_is_nobody_s_concern(write: Write) -> None:
    with opened(write(b"sku,qty,\nLAMP,1,\nSOFA,2,sold out?\n")) as file:
        [first, second] = file
    asked_for = Condition.parse("sku=LAMP")

    assert (second.fault, asked_for.holds(first), asked_for.holds(second)) == (
        "has 'sold out?' in column 3, which has no name; name it in the header",
        True,
        False,
    )


def test_a_column_that_is_named_by_a_sign_makes_no_row_a_header(write: Write) -> None:
    with opened(write(b"#;eta;sku;$\nb1;;BLUE-SKU;x\n")) as file:
        file.needed = {"#", "sku", "$"}
        assert [row.fault for row in file] == [""]


@pytest.mark.parametrize("row", [b"ref,sku,1,", b"my-ref,the sku,5,", b"sku,ref,1,qt", b"ref,ref,ref,", b"x,sku,1,qty"])
def test_a_row_that_has_some_names_of_columns_is_no_header(write: Write, row: bytes) -> None:
    with opened(write(b"ref,sku,qty,note\n" + row + b"\n")) as file:
        file.needed = {"ref", "sku", "qty"}
        assert [one.fault for one in file] == [""]


@pytest.mark.parametrize("last", [b"b2,S,50", b"b2,S", b"b2,S,"])
def test_a_file_that_was_cut_short_in_its_last_row_is_not_taken_for_whole(write: Write, last: bytes) -> None:
    """Though optional cells may be left out, and the last line may have no end."""

    def faults(text: bytes) -> list[str]:
        with opened(write(b"ref,sku,qty,eta\n" + text)) as file:
            file.needed = {"ref", "sku", "qty"}
            return [row.fault for row in file]

    cut = "has neither all its cells nor an end of line; is the file cut short?"
    assert faults(b"b1,S,7,2031-01-01\n" + last) == ["", cut]
    assert faults(b"b1,S,7\nb2,S,50,2031-01-01") == ["", ""]
    assert faults(b"b1,S,7,\r\nb2,S,50,") == faults(b'b1,S,7,\r\nb2,S,50,""') == ["", ""], "as sheets are downloaded"
    assert faults(b"b1,S,7\nb2,S,50\r\n") == ["", ""]


def test_wants_a_header_in_utf_8(write: Write) -> None:
    assert fault(write(b"s\xc4u,qty\nCHAIR,1\n")) == ([], f"row 1 {NOT_UTF_8}")


def test_gives_what_can_be_unpacked_of_a_damaged_gzip_file(write: Write) -> None:
    whole = gzip.compress(b"sku\n" + b"".join(b"SKU-%d\n" % (n * n) for n in range(20_000)))
    numbers, said = fault(write(whole[: len(whole) // 2]))
    assert numbers == list(range(2, len(numbers) + 2))
    assert said.startswith(f"row {len(numbers) + 2} can't be unpacked: the gzip file is damaged or cut short")


@pytest.mark.parametrize(
    ("beginning", "kind"),
    [
        (b"PK\x03\x04\x14\x00", "the beginning of a workbook (.xlsx), or another zip file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "the beginning of a workbook (.xls)"),
        ("\ufeffsku,qty\nCHAIR,1\n".encode("utf-16-le"), "in UTF-16"),
        ("\ufeffsku,qty\nCHAIR,1\n".encode("utf-16-be"), "in UTF-16"),
        ("sku,qty\nCHAIR,1\n".encode("utf-16-le"), "in UTF-16"),
        ("sku,qty\nCHAIR,1\n".encode("utf-16-be"), "in UTF-16"),
    ],
)
def test_says_what_a_file_is_that_is_no_csv_file(write: Write, beginning: bytes, kind: str) -> None:
    said = f"row 1 is {kind}; save it as CSV in UTF-8"
    assert fault(write(beginning + b"\xff" * LONGEST_ROW)) == ([], said)
    assert fault(write(gzip.compress(beginning))) == ([], said)


@pytest.mark.parametrize(
    "content",
    [
        b"sku;qty;note\nCHAIR;1;a,b\n",
        b"sku\tqty\tnote\r\nCHAIR\t1\ta,b\r\n",
        b'sep=;\r\nsku;qty;note\r\nCHAIR;1;"a,b"\r\n',
        b"\xef\xbb\xbfsep=|\nsku|qty|note\nCHAIR|1|a,b\n",
        b'"sep=,"\nsku,qty,note\nCHAIR,1,"a,b"\n',
        b'"sku";"qty";"note"\nCHAIR;1;a,b\n',
    ],
)
def test_sees_what_stands_between_cells(write: Write, content: bytes) -> None:
    assert rows(write(content)) == [(2, {"sku": "CHAIR", "qty": "1", "note": "a,b"})]


def test_a_comma_within_the_quotes_of_a_header_stands_between_nothing(write: Write) -> None:
    assert rows(write(b'"a, b, c";qty\nCHAIR;1\n')) == [(2, {"a, b, c": "CHAIR", "qty": "1"})]


@pytest.mark.parametrize("cleared", [b",\n", b"\n", b"   \n", b" , \n", b'"",\n', b",,,,\n", b"\t\n"])
def test_passes_over_rows_that_somebody_has_cleared(write: Write, cleared: bytes) -> None:
    assert [number for number, _ in rows(write(b"sku,qty\nCHAIR,1\n" + cleared + b"LAMP,2\n"))] == [2, 4]


@pytest.mark.parametrize("row", [b"CHAIR,1", b"CHAIR,1,", b"CHAIR,1,,", b"CHAIR,1,,,,"])
def test_takes_rows_that_lack_empty_cells_at_their_end_or_have_some_more(write: Write, row: bytes) -> None:
    with opened(write(b"sku,qty,eta,note\n" + row + b"\n")) as file:
        file.needed = {"sku", "qty"}
        assert list(file) == [Row(2, {"sku": "CHAIR", "qty": "1", "eta": "", "note": ""})]


def test_refuses_rows_that_lack_a_cell_that_is_needed_or_have_one_without_a_column(write: Write) -> None:
    with opened(write(b"sku,eta,qty\nCHAIR,\nCHAIR,,1,x\n")) as file:
        file.needed = {"sku", "qty"}
        assert [row.fault for row in file] == [f"has {count} fields, but the header has 3" for count in (2, 4)]


@pytest.mark.parametrize("nameless", [b"", b" "])
def test_refuses_a_value_in_a_column_without_a_name_and_takes_rows_without_one(write: Write, nameless: bytes) -> None:
    with opened(
        write(b"ref,qty," + nameless + b",\nb0,1\nb1,10,2031-01-01,\nb2,10\nb3,10,, \nb4,10,," + b"x" * 99)
    ) as file:
        file.needed = {"ref", "qty"}
        assert [row.fault for row in file] == [
            "",
            "has '2031-01-01' in column 3, which has no name; name it in the header",
            "",
            "",
            f"has '{'x' * 60}' in column 4, which has no name; name it in the header",
        ]


def test_ends_at_the_first_row_where_that_has_a_value_in_a_column_without_a_name(write: Write) -> None:
    """As a column of row numbers in front."""
    with opened(write(b",ref,qty\n\n0,b1,10\n1,b2,10\n")) as file, pytest.raises(BadCsv) as raised:
        list(file)

    assert str(raised.value) == "row 3 has '0' in column 1, which has no name"
    assert raised.value.mend == "name it in the header, and import the file again"


@pytest.mark.parametrize("cleared", [b"\n", b",\n", b" \n"])
def test_ends_behind_as_many_cleared_rows_as_a_sheet_has(
    write: Write, cleared: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "MOST_CLEARED", 1000)
    some = b"sku,qty\nCHAIR,1\n" + cleared * 1000 + b"LAMP,1\n"

    assert [number for number, _ in rows(write(some))] == [2, 1003]
    assert fault(write(gzip.compress(some + cleared * 1001 + b"SOFA,1\n"))) == (
        [2, 1003],
        "row 2004 is empty, as 1,000 before it are; nothing is read behind it",
    )


@pytest.mark.parametrize(
    ("cell", "written"),
    [("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@a", "'@a"), ("\ta", "'\ta"), ("\ra", "'\ra"), ("'=a", "''=a")]
    + [(f"{wide}1", f"'{wide}1") for wide in "＝＋－＠"],
)
def test_a_cell_that_a_spreadsheet_would_run_is_written_as_text_and_read_back(cell: str, written: str) -> None:
    assert escaped(cell) == written
    assert unescaped(written) == cell


@pytest.mark.parametrize("cell", ["", "a=b", "'", "'a", "1-2", " =1"])
def test_any_other_cell_is_written_as_it_is(cell: str) -> None:
    assert escaped(cell) == unescaped(cell) == cell


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"sep=;\n"])
def test_wants_a_header(write: Write, content: bytes) -> None:
    assert fault(write(content)) == ([], "row 1 is empty, but must name the columns")


def test_names_a_missing_column_and_those_that_are_there(write: Write) -> None:
    with opened(write(b"product,qty\n")) as file, pytest.raises(UnfitColumns) as raised:
        file.require("sku")
    assert str(raised.value) == "there is no column 'sku' among 'product', 'qty'"


def test_minds_a_column_that_is_there_twice_only_if_it_is_needed(write: Write) -> None:
    with opened(write(b"sku,note,note\n")) as file:
        file.require("sku")
        with pytest.raises(UnfitColumns, match="more than one column 'note'"):
            file.require("note")


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("kind=sale", ["sale"]),
        ("kind=sale,free", ["sale", "free"]),
        ("kind=", [""]),
        ("kind!=", ["sale", "free", "a=b"]),
        ("kind!=sale", ["free", "", "a=b"]),
        ("kind!=sale,", ["free", "a=b"]),
        ("kind=a=b", ["a=b"]),
        ("kind=SALE", []),
    ],
)
def test_keeps_the_rows_that_a_condition_asks_for(condition: str, kept: list[str]) -> None:
    wanted = Condition.parse(condition)
    assert [kind for kind in ["sale", "free", "", "a=b"] if wanted.holds(Row(2, {"kind": kind}))] == kept


@pytest.mark.parametrize("text", ["", "kind", "=sale", "!=sale"])
def test_a_condition_names_a_column(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        Condition.parse(text)
