"""Files of estimators of users: what a file says about itself."""

from tier4k.heads.results.estimators import refusal


def test_a_file_of_many_types_with_long_names_is_refused_in_a_few_lines() -> None:
    message = refusal([f"{'long' * 10_000}.Type{number}" for number in range(1000)])
    assert len(message) < 10_000
    assert "990 more" in message
    assert "--trust package.Forest" in refusal(["package.Forest"])
