"""What the command line says before it needs a server."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from allocation.config import Settings
from allocation.entrypoints.bulk.commands import export, import_


def ask(*arguments: str) -> Result:
    command, *rest = arguments
    return CliRunner().invoke({"import": import_, "export": export}[command], rest, obj=Settings())


@pytest.fixture
def lines(tmp_path: Path) -> str:
    path = tmp_path / "lines.csv"
    path.write_text("order_id,line_no,sku,qty\n10248,1,NW-11,12\n")
    return str(path)


def test_names_the_column_that_is_missing_and_the_way_out(lines: str) -> None:
    result = ask("import", "orders", lines, "--map", "lineid=line_no")
    assert (result.exit_code, result.output) == (
        2,
        "Error: there is no column 'orderid' among 'order_id', 'line_no', 'sku', 'qty'; "
        "say with --map orderid=COLUMN where orderid is\n",
    )


@pytest.mark.parametrize(
    ("command", "field", "column"),
    [
        *(
            ("batches", "eta", column)
            for column in ("ETA", " eta", "e_t_a", "\ufeffeta", "etas", "et", "eda", "tea", "ｅｔａ")
        ),
        *(("batches", "expires", column) for column in ("Expires", "expire", "exipres")),
        ("batches", "location", "locations"),
        *(("orders", "lineid", column) for column in ("lineID", "line_id", "line-id", "Line Id", "linid")),
        *(
            ("batches", "eta", column)
            for column in (
                "ETA_date",
                "eta date",
                "new eta",
                "batch_eta",
                "eta [UTC]",
                "eta_utc",
                "E.T.A. (day)",
                "ｅｔａ＿ｄａｙ",
                *("ETADate", "ETADATE", "ETAdate", "etadate", "POETA", "ETAUTC"),
                *("arrival_date", "Arrival", "Expected", "expected_date", "Estimated Arrival", "delivery date"),
            )
        ),
        *(
            ("batches", "expires", column)
            for column in (
                *("expires_on", "BBExpires", "EXPIRY_DATE", "expiryDate", "Best before", "use_by"),
                *("exp_date", "EXP", "sell_by", "sellByDate", "BBE", "valid until"),
            )
        ),
        *(
            ("batches", "location", column)
            for column in ("Location code", "WHLocation", "LOCATIONCode", "LOCATIONID", "loc_id")
        ),
        *(
            ("orders", "lineid", column)
            for column in (
                *("order_lineid", "order line id", "line_no", "Line No.", "line number", "Line #", "line"),
                *("POLineNo", "SOLineID", "SKULineID", "LineNum", "Line Item", "LineItemID", "orderline", "Order Line"),
                *("POLINENO", "ORDERLINENUMBER", "LineItemNo", "Line Item Number", "Pos."),
            )
        ),
    ],
)
def test_refuses_a_near_miss_of_an_optional_column_by_name(
    tmp_path: Path, command: str, field: str, column: str
) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"ref,orderid,sku,qty,{column}\n")
    result = ask("import", command, str(path))
    assert (result.exit_code, result.output) == (
        2,
        f"Error: there is a column {column!r}, but none {field!r}; "
        f"say with --map {field}=COLUMN where {field} is, or with --map {field}= that there is none\n",
    )


@pytest.mark.parametrize(
    ("command", "field", "column"),
    [
        *(("batches", "eta", column) for column in ("ETA", "Eta ", "e-t-a", "ｅｔａ")),
        *(("batches", "qty", column) for column in ("QTY", "qty ")),
        ("orders", "lineid", "line_id"),
    ],
)
def test_refuses_a_column_that_differs_from_one_that_is_there_in_its_spelling_only(
    tmp_path: Path, command: str, field: str, column: str
) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"ref,orderid,sku,{'qty,' if field != 'qty' else ''}{field},{column},etas\n")
    assert (
        f"Error: there is a column {column!r}, beside {field!r}; say with --map {field}=COLUMN where {field} is"
        in ask("import", command, str(path)).output
    )


def test_names_the_column_that_a_condition_misses(lines: str) -> None:
    result = ask("import", "orders", lines, "--map", "orderid=order_id", "--where", "kind=sale")
    assert (result.exit_code, result.output) == (
        2,
        "Error: there is no column 'kind' among 'order_id', 'line_no', 'sku', 'qty'; --where names it\n",
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--map", "orderid"], "'orderid' is not of the form field=column"),
        (["--map", "=order_id"], "'=order_id' is not of the form field=column"),
        (["--map", "orderid="], "'orderid=' is not of the form field=column, and every row needs orderid"),
        (["--map", "sku=a", "--map", "sku=b"], "'sku' is given twice"),
        (["--map", "eta=x"], "there is no field 'eta' to map; there are orderid, sku, qty, lineid"),
        (["--where", "kind"], "'kind' is not of the form column=value[,value...] or column!=value[,value...]"),
        (["--limit", "0"], "0 is not in the range 1<=x<=2147483647"),
    ],
)
def test_says_what_is_wrong_with_an_option(lines: str, options: list[str], said: str) -> None:
    result = ask("import", "orders", lines, *options)
    assert result.exit_code == 2
    assert said in result.output


def test_says_when_there_is_no_such_file() -> None:
    result = ask("import", "batches", "nowhere.csv")
    assert result.exit_code == 2
    assert "File 'nowhere.csv' does not exist." in result.output


@pytest.mark.parametrize("what", ["allocations", "at-risk"])
def test_says_when_the_name_of_a_file_is_empty(what: str) -> None:
    result = ask("export", what, "")
    assert result.exit_code == 2
    assert "Error: Invalid value for 'FILE': the name of the file is empty" in result.output


def test_says_when_the_file_has_no_header(tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.touch()
    result = ask("import", "batches", str(empty))
    assert (result.exit_code, result.output) == (
        1,
        f"Error: can't read {empty}: row 1 is empty, but must name the columns\n",
    )


@pytest.mark.parametrize(
    "command", [("import", "batches"), ("import", "orders"), ("export", "allocations"), ("export", "at-risk")]
)
def test_explains_itself(command: tuple[str, ...]) -> None:
    result = ask(*command, "--help")
    assert result.exit_code == 0
    assert "FILE" in result.output
