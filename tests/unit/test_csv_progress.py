import pytest

from allocation.entrypoints.bulk.progress import progress


@pytest.mark.parametrize(
    ("total", "line"),
    [(200, "25% of the file, 7 added\n"), (None, "7 added\n")],
)
def test_says_how_far_it_is_where_there_is_no_terminal(
    total: int | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(total, seconds_between_lines=0) as show:
        show(50, "7 added")
    assert capsys.readouterr() == ("", line)


def test_says_nothing_of_what_is_soon_over(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(200) as show:
        show(50, "7 added")
    assert capsys.readouterr() == ("", "")
