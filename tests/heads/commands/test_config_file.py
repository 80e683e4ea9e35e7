"""`--config` reads options from a file, which `tier config` prints."""

import tomllib
from pathlib import Path

import pytest

from tier4k.tests.builders.commands import ENCODERS, on_one_line, succeed, tier


def write(text: str) -> str:
    Path("tier.toml").write_text(text)
    return "tier.toml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_printed_options_fit_the_same_run(project: Path) -> None:
    command = ["fit-head", "Dataset", *ENCODERS, "--head", "ridge", "--repeats", "2", "--target", "MOS_q"]
    options = [*command, "--set", "penalties=1,10", "--split", "random"]
    printed = succeed("config", *options)
    assert succeed("config", "fit-head", "--config", write(printed)) == printed
    succeed("fit-head", "--config", "tier.toml")
    (run,) = Path("runs").iterdir()
    output = succeed(*options)
    assert f"runs/{run.name} (this run exists already" in on_one_line(output)


def test_the_command_line_replaces_what_the_file_has(folder: Path) -> None:
    write('[fit-head]\ndata = ["a", "b"]\nimage-encoder = ["clip", "vit"]\nrepeats = 3\nlearning-rate = 1\n')
    options = ["--config", "tier.toml", "--image-encoder", "resnet18", "--repeats", "4"]
    (section,) = tomllib.loads(succeed("config", "fit-head", "c", *options)).values()
    assert section["data"] == ["c"]
    assert section["image-encoder"] == ["resnet18"]
    assert (section["repeats"], section["learning-rate"]) == (4, 1.0)


def test_a_file_serves_several_commands_and_flags_numbers_and_names(folder: Path) -> None:
    write(
        '[extract]\ndata = "x"\nimage-size = 448\nrehash = true\n'
        '[store.gc]\nolder-than = 2\nruns = ["a", "b"]\n[data.check]\ntext-encoder = "minilm"\n'
    )
    extract = tomllib.loads(succeed("config", "extract", "--config", "tier.toml"))["extract"]
    assert (extract["data"], extract["image-size"], extract["rehash"]) == (["x"], "448", True)
    store = tomllib.loads(succeed("config", "store", "gc", "--config", "tier.toml"))["store"]["gc"]
    assert (store["older-than"], store["runs"]) == (2.0, ["a", "b"])


def test_texts_with_quotes_and_other_letters_are_printed_as_they_are_read(folder: Path) -> None:
    named = 'Bilder "größer"\\neu.csv'
    (section,) = tomllib.loads(succeed("config", "fit-head", named)).values()
    assert section["data"] == [named]
    code, output = tier("config", "fit-head", "a\udce9")
    assert code == 2
    assert "is not UTF-8" in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reapeats = 3", "[fit-head] has no option 'reapeats' (nearest: repeats"),
        ("image_encoder = 'vit'", "no option 'image_encoder' (nearest: image-encoder"),
        ("config = 'x'", "has no option 'config'"),
        ('repeats = "3"', '[fit-head] repeats = "3" has the wrong type: use a whole number'),
        ("repeats = 1.5", "repeats = 1.5 has the wrong type: use a whole number"),
        ("repeats = true", "repeats = true has the wrong type"),
        ("target = [[1]]", "wrong type: use a text, or a list of them"),
        ("features = ['a', 'b']", "wrong type: use a text"),
        ("repeats = 0", "repeats = 0 is not valid: 0 is out of range: pass a whole number from 1 to"),
        ("data = []", "data = [] is empty: list one or more"),
        ("learning-rate = nan", "nan is out of range: pass a number of 0 or more"),
        ("finetune = 'last:0'", "--finetune 'last:0' is not known"),
        ("raters = 1", "raters = 1 is not valid"),
        ("method = 'xr'", "method = \"xr\" is not valid: 'xr' is not one of nr, fr, pr"),
        ("benchmark = 'x'", 'benchmark = "x" is not valid: there is no benchmark'),
        ("data = [", "cannot be read as a file of options"),
        ("data = " + "[" * 5000, "cannot be read as a file of options"),
    ],
)
def test_a_wrong_option_is_refused_with_file_key_value_and_remedy(
    folder: Path, text: str, message: str
) -> None:
    code, output = tier("fit-head", "--config", write(f"[fit-head]\n{text}\n"))
    assert code == 2
    assert message in on_one_line(output)
    assert "tier.toml" in output


@pytest.mark.parametrize(
    ("text", "command", "message"),
    [
        ("repeats = 1", "fit-head", "repeats = 1 is in no section: write it below"),
        ("[fithead]", "fit-head", "[fithead] is no command (nearest: fit-head)"),
        ("[extract]", "fit-head", "has no section [fit-head] for this command: add it. Sections of the file"),
        ("[[fit-head]]", "fit-head", "[[fit-head]] is a list: write [fit-head] with single brackets"),
        ("[store.gcc]", "store gc", "[store.gcc] is no command (nearest: gc)"),
    ],
)
def test_a_wrong_section_is_refused_with_its_remedy(
    folder: Path, text: str, command: str, message: str
) -> None:
    code, output = tier(*command.split(), "--config", write(text))
    assert code == 2
    assert message in on_one_line(output)


def test_an_unknown_command_has_no_options_to_print(folder: Path) -> None:
    code, output = tier("config", "fithead")
    assert code == 2
    assert "there is no command 'fithead' (nearest: fit-head): pass one of" in on_one_line(output)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["config"], "config reads no options from a file: pass another command"),
        (["store"], "store is a group: pass one of ls, verify"),
    ],
)
def test_what_has_no_options_of_its_own_is_refused(words: list[str], message: str) -> None:
    code, output = tier("config", *words)
    assert code == 2
    assert message in on_one_line(output)
