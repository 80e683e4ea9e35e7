"""Text is broken between words; what a user copies stays whole."""

from tier4k.extract.screen.wrap import wrapped


def test_lines_are_broken_between_words_only() -> None:
    assert wrapped("no value is lost here", 10) == ["no value", "is lost", "here"]


def test_a_long_path_stays_whole() -> None:
    assert wrapped("see runs/nr-all-prompt-8a64133945 now", 10) == [
        "see",
        "runs/nr-all-prompt-8a64133945",
        "now",
    ]


def test_a_command_between_backticks_stays_whole() -> None:
    assert wrapped("run `tier store gc --delete`: it ends", 12) == [
        "run",
        "`tier store gc --delete`:",
        "it ends",
    ]


def test_spaces_at_the_beginning_are_kept() -> None:
    assert wrapped("  a b", 20) == ["  a b"]
    assert wrapped("", 20) == [""]
