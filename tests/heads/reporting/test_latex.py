"""A LaTeX table prints names of users as they are."""

import pytest

from tier4k.heads.reporting.latex import _escaped


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mos^2~a", r"mos\textasciicircum{}2\textasciitilde{}a"),
        ("50 % of_a&b #1 {x} $", r"50 \% of\_a\&b \#1 \{x\} \$"),
        ("a\\b", r"a\textbackslash{}b"),
        ("two\n\nlines", "two lines"),
    ],
)
def test_special_characters_of_latex_are_escaped(name: str, text: str) -> None:
    assert _escaped(name) == text
