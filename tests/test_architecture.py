"""The house keeps its shape: imports point one way, without circles, and every module lives in a room."""

import ast
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = {"cache": 0, "extract": 1, "heads": 2, "cli": 3}
LONGEST_CHAIN = 20
CLI_LINES = 200

Graph = dict[str, set[str]]


def module_name(path: Path) -> str:
    """The import name of a file, such as tier4k.heads.data.splits."""
    parts = ["tier4k", *path.relative_to(ROOT).with_suffix("").parts]
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def source_files() -> list[Path]:
    """Every file that the wheel holds, without the public face."""
    files = [ROOT / "cli.py"]
    for package in ("cache", "extract", "heads"):
        files.extend(sorted((ROOT / package).rglob("*.py")))
    return files


def imported_names(path: Path) -> Iterator[str]:
    """Names that a file imports anywhere: inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def import_graph() -> Graph:
    """For each module the modules of tier4k that it imports."""
    modules = {module_name(path): path for path in source_files()}
    graph: Graph = {}
    for name, path in modules.items():
        graph[name] = set()
        for imported in imported_names(path):
            owner = imported if imported in modules else imported.rpartition(".")[0]
            if owner in modules and owner != name:
                graph[name].add(owner)
    return graph


def room(module: str) -> str:
    """The sub-package of a module; a folder inside a sub-package counts as part of it."""
    parts = module.split(".")
    return ".".join(parts[:3]) if len(parts) > 3 else ".".join(parts[:2])


def require_no_circle(graph: Graph) -> list[str]:
    """Modules or rooms in an order in which each comes after all that it imports."""
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these import each other: {' -> '.join(error.args[1])}")


def test_imports_point_from_cli_to_heads_to_extract_to_cache() -> None:
    for module, imported in import_graph().items():
        for other in imported:
            level, below = (LEVELS[name.split(".")[1]] for name in (module, other))
            assert below <= level, f"{module} imports {other}"


def test_everything_is_imported_under_the_one_name_tier4k() -> None:
    for path in [*source_files(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for name in imported_names(path):
            assert name.split(".")[0] not in LEVELS, f"{path} imports {name}"


def test_no_file_imports_a_file_that_imports_it() -> None:
    require_no_circle(import_graph())


def test_no_two_rooms_import_each_other_directly_or_in_a_ring() -> None:
    rooms: Graph = {}
    for module, imported in import_graph().items():
        others = rooms.setdefault(room(module), set())
        others.update(room(other) for other in imported if room(other) != room(module))
    require_no_circle(rooms)


def test_a_chain_of_imports_stays_short_enough_to_follow() -> None:
    graph = import_graph()
    length: dict[str, int] = {}
    for module in require_no_circle(graph):
        length[module] = 1 + max((length[other] for other in graph[module]), default=0)
    longest = max(length, key=lambda module: length[module])
    assert length[longest] <= LONGEST_CHAIN, longest


def test_every_module_of_extract_and_heads_lives_in_a_room() -> None:
    for package in ("extract", "heads"):
        loose = [path.name for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"]
        assert not loose


def test_cli_only_assembles() -> None:
    assert len((ROOT / "cli.py").read_text(encoding="utf-8").splitlines()) <= CLI_LINES


def test_choices_import_nothing_so_that_help_shows_at_once() -> None:
    for path in source_files():
        if path.name == "choices.py":
            assert {name.split(".")[0] for name in imported_names(path)} <= {"typing"}, path


def test_the_wheel_holds_every_package_and_nothing_else() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {path.parent for path in source_files() if path.parent != ROOT}
    packages = {"tier4k", *(module_name(folder / "__init__.py") for folder in folders)}
    assert set(settings["tool"]["setuptools"]["packages"]) == packages


def test_the_wheel_holds_the_files_that_are_no_python() -> None:
    """A file such as a page template is part of the wheel only if a pattern of its package names it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set()
    for package, patterns in settings["tool"]["setuptools"]["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            found = set(folder.glob(pattern))
            assert found, f"{pattern} of {package} names no file"
            listed |= found
    files = {path for package in LEVELS for path in (ROOT / package).rglob("*") if path.is_file()}
    others = {path for path in files if path.suffix not in (".py", ".pyc", ".nbi", ".nbc")}
    assert others <= listed
