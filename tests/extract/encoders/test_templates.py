"""Templates come from a small TOML file, and what is wrong in it is named with its remedy."""

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from tier4k.extract.encoders.templates import TemplateError, Templates, read_templates


def test_the_built_in_templates_are_the_texts_of_the_file_in_the_package() -> None:
    content = tomllib.loads((files("tier4k.extract.encoders") / "templates.toml").read_text())
    templates = read_templates(None)
    assert templates.texts == (*content["quality"], *content["agreement"])
    assert templates.quality and templates.agreement
    assert len(set(templates.texts)) == len(templates.texts)
    assert not any(mark in text for text in templates.texts for mark in "{}<>%")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_users_file_is_read_with_and_without_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    path = tmp_path / "mine.toml"
    text = 'agreement = ["passt"]\nquality = ["schön", "hässlich"]\n'
    path.write_bytes(mark + text.encode("utf-8"))
    assert read_templates(path) == Templates(("schön", "hässlich"), ("passt",))
    assert read_templates(path).texts == ("schön", "hässlich", "passt")


WRONG = {
    "an unknown key": (
        'quality = ["a"]\nagreement = ["b"]\nalignment = ["c"]',
        "'alignment'.*correct its name",
    ),
    "a missing key": ('quality = ["a"]', "'agreement': write agreement ="),
    "an empty list": ('quality = []\nagreement = ["b"]', "'quality': write quality ="),
    "a text instead of a list": ('quality = "a"\nagreement = ["b"]', "'quality': write quality ="),
    "an empty text": ('quality = ["a", " "]\nagreement = ["b"]', "number 2 of 'quality' is ' '.*remove it"),
    "a number": ('quality = ["a"]\nagreement = [5]', "number 1 of 'agreement' is 5.*write a text"),
    "a placeholder": (
        'quality = ["a"]\nagreement = ["matches {prompt}"]',
        "placeholder.*write the whole text",
    ),
    "a text twice": ('quality = ["a", "c", "a"]\nagreement = ["b"]', "'a' 2 times, in quality: keep one"),
    "a text in both lists": ('quality = ["a"]\nagreement = ["a"]', "in quality and agreement: keep one"),
    "no TOML": ("quality: a", "cannot be read as templates.*quality = "),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_is_refused_with_its_name_the_key_and_the_remedy(tmp_path: Path, kind: str) -> None:
    content, message = WRONG[kind]
    path = tmp_path / "mine.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TemplateError, match=f"(?s)mine.toml.*{message}"):
        read_templates(path)


def test_a_file_that_is_not_there_or_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match=r"nowhere.toml cannot be read"):
        read_templates(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes('quality = ["schön"]'.encode("latin-1"))
    with pytest.raises(TemplateError, match=r"latin.toml cannot be read"):
        read_templates(tmp_path / "latin.toml")
