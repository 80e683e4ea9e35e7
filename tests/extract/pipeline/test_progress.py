"""What an extraction prints on a terminal."""

from io import StringIO

from rich.console import Console

from tier4k.extract.pipeline.progress import ConsoleListener, notes_printer


def test_a_note_is_printed_once_however_often_weights_are_loaded() -> None:
    output = StringIO()
    console = Console(file=output, width=20)
    note = notes_printer(console)
    with ConsoleListener(console) as listener:
        for show in (note, listener.noted):
            for text in ("the averaged weights are used", "another note", "the averaged weights are used"):
                show(text)
    expected = "note: the averaged weights are used\nnote: another note\n"  # lines are not wrapped
    assert output.getvalue() == 2 * expected
