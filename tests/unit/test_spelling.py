"""When a name has another one among its words."""

import pytest

from allocation.spelling import has_words


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *(
            (name, "eta")
            for name in (
                "eta",
                "eta_date",
                "new ETA",
                "eta [UTC]",
                "eta\n(day)",
                "#eta",
                "E.T.A. day",
                "my e-ta",
                "etaDate",
                "newEta",
                "newETA",
                "ETADate",
                "PlannedETADate",
                "ETAUtc",
                "po2Eta",
            )
        ),
        *((name, "needed_by") for name in ("needed by date", "is NeededBy", "needed_by", "neededByDate")),
        *((name, "lineno") for name in ("orderLineNo", "POLineNo", "SO2LineNo")),
        ("ｅｔａ＿ｄａｙ", "eta"),
        ("line №", "lineno"),
    ],
)
def test_a_name_has_another_one_among_its_words(name: str, known: str) -> None:
    assert has_words(name, known)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((name, "eta") for name in ("beta", "metadata", "etas_note", "eta1_day", "details", "ETAdate", "", "tea")),
        *((name, "lineno") for name in ("line", "deadline no", "on_line_note", "no_line")),
    ],
)
def test_a_name_that_has_only_the_letters_of_another_does_not(name: str, known: str) -> None:
    assert not has_words(name, known)
