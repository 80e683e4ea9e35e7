"""The site of the documentation: its pages name what exists, and it loads nothing from other hosts."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import tier4k

DOCS = Path(__file__).parents[1] / "docs"


def hook(name: str) -> ModuleType:
    """A hook of the build, which is a file and no part of the package."""
    spec = spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_python_shows_every_public_name_once() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: tier4k\.(\w+)$", page, re.MULTILINE)) == sorted(tier4k.__all__)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("page.html", '<script src="https://host/a.js"></script>'),
        ("page.html", '<link rel="stylesheet" href="//host/a.css">'),
        ("page.html", '<link rel="preconnect" href="https://host">'),
        ("page.html", '<img src="HTTPS://host/a.png">'),
        ("page.html", '<p style="background: url(https://host/a.png)"></p>'),
        ("page.html", "<style>@import 'https://host/a.css';</style>"),
        ("a.css", "@font-face { src: url('https://host/a.woff2') }"),
    ],
)
def test_what_a_browser_loads_from_another_host_is_found(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    assert len(hook("outside_requests").outside_requests(tmp_path / file)) == 1


def test_links_that_a_person_clicks_are_no_requests(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="https://host/">a</a> <link rel="canonical" href="https://host/"> <img src="a.png">'
    )
    assert hook("outside_requests").outside_requests(page) == []
