"""What contributors meet first is complete: `make help`, the citation, the hooks of pre-commit."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def read_yaml(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_make_help_lists_every_target_with_one_line() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets
    described = re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE)
    assert sorted(described) == sorted(targets[1].split())


def test_the_citation_names_this_version_and_the_method() -> None:
    citation = read_yaml("CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert str(citation["version"]) == project["version"]
    assert citation["license"] == project["license"]
    # What version 1.2.0 of the Citation File Format requires of a file and of a reference.
    assert citation["cff-version"] == "1.2.0"
    assert all(citation[key] for key in ("message", "title", "authors"))
    for reference in citation["references"]:
        assert all(reference[key] for key in ("type", "title", "authors"))
    assert any("2404.18409" in reference["url"] for reference in citation["references"])


def test_hooks_of_pre_commit_are_programs_of_the_projects_environment() -> None:
    for repository in read_yaml(".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["entry"].startswith(".venv/bin/ruff ")


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")), ids=lambda p: p.stem
)
def test_issue_templates_have_a_name_and_a_description(path: Path) -> None:
    _, header, body = path.read_text(encoding="utf-8").split("---\n", 2)
    fields = yaml.safe_load(header)
    assert fields["name"] and fields["about"] and body.strip()


def test_modules_that_the_pages_for_contributors_name_exist() -> None:
    existing = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("*.py")]
    for folder in ("benchmarks", "cache", "docs", "extract", "heads", "tests"):
        existing.extend(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py"))
    for page in [ROOT / "docs" / "architecture.md", *(ROOT / "docs" / "adding").glob("*.md")]:
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for name in re.findall(r"`([\w/.-]+\.py)`", prose):
            assert any(f"/{path}".endswith(f"/{name}") for path in existing), f"{page.name}: {name}"
