"""What other packages add to tier4k: objects named as `package.module:Name`, or by entry points.

A package declares an entry point in its pyproject.toml, for example

    [project.entry-points."tier4k.heads"]
    forest = "my_package.heads:Forest"
"""

import sys
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal, get_args

from tier4k.cache.errors import TierError

Group = Literal["tier4k.heads", "tier4k.encoders", "tier4k.layouts", "tier4k.scorers"]

FOREIGN_ERRORS = (Exception, SystemExit)
"""What code of other packages may raise; none of it may end a command without a message."""

SCRIPTS = ("__main__", "__mp_main__")  # the running script or notebook, also in a process that it started


class PluginError(TierError):
    """An object of another package cannot be imported."""


def is_import_path(name: str) -> bool:
    """Return whether a name has the form `package.module:Name`, as Python writes names."""
    module, colon, attribute = name.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    return bool(colon) and all(map(str.isidentifier, parts))


def installed_plugins(group: Group) -> dict[str, EntryPoint]:
    """Return the entry points of installed packages by name; nothing is imported.

    Raises:
        PluginError: Two packages declare the same name.
    """
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = points.setdefault(point.name, point)
        if other.value != point.value:
            raise PluginError(
                f"two installed packages declare {point.name!r} in {group}: {other.value} and {point.value}. "
                f"Uninstall one of them, or pass the object itself, for example {point.value}"
            )
    return points


def import_path_of(point: EntryPoint) -> str:
    """Return the import path `package.module:Name` of the object that an entry point names."""
    return f"{point.module}:{point.attr}"


def import_object(path: str) -> Any:
    """Import the object that a path `package.module:Name` names; this executes the module.

    Modules are searched where Python searches them, and then in the working directory.

    Raises:
        PluginError: The module cannot be imported, has no such object, or is the running script.
    """
    module, _, name = path.partition(":")
    if module in SCRIPTS:
        raise PluginError(
            f"{path} is in the running script or notebook, which later commands cannot import: put it into a "
            f"module, such as a file my_code.py beside the script, and pass my_code:{name}"
        )
    if str(Path.cwd()) not in sys.path:  # Python does not search there for a console script
        sys.path.append(str(Path.cwd()))
    try:
        value: Any = import_module(module)
        for attribute in name.split("."):
            value = getattr(value, attribute)
    except FOREIGN_ERRORS as error:  # the module is a user's: its import may raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(
            f"{path} cannot be imported: {text}{place_of(error, module)}{_remedy(module, error)}"
        ) from error
    return value


def place_of(error: BaseException, module: str) -> str:
    """Return where a module, or another one of its package, raised an error: " (my_heads.py, line 26)".

    Args:
        error: A caught error.
        module: Name of the module.

    Returns:
        The innermost of its lines that the error passed through; "" if it passed through none.
    """
    package = module.partition(".")[0]
    place = ""
    for frame, line in walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__", ""))
        if name == package or name.startswith(f"{package}."):
            file = Path(frame.f_code.co_filename)
            shown = file.relative_to(file.parent.parent) if file.name == "__init__.py" else file.name
            place = f" ({shown}, line {line})"
    return place


def _remedy(module: str, error: BaseException) -> str:
    """Return what to do about a module or a package that does not exist; "" for other errors."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    if not f"{module}.".startswith(f"{error.name}."):
        return f". {module} needs it: install {package}"
    if error.name != package:
        return f". The package {package} has no such module: correct the name"
    return f". Run the command in the folder of {package}.py, or set PYTHONPATH to it, or install the package"


def distribution_of(path: str) -> str:
    """Return the distribution with the object of an import path, "my-metrics 0.3"; "" where there is none."""
    for group in get_args(Group):
        for point in entry_points(group=group):
            if point.dist and import_path_of(point) == path:
                return f"{point.dist.name} {point.dist.version}"
    package = path.partition(":")[0].partition(".")[0]
    # This reads the lists of files of all installed packages, which is slow.
    names = sorted(set(packages_distributions().get(package, ())))
    return ", ".join(f"{name} {version(name)}" for name in names)
