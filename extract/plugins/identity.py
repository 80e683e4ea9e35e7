"""What a run records of an object of another package, as part of the run's identity."""

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple

from tier4k.cache.keys import file_key
from tier4k.cache.text import nearest
from tier4k.extract.plugins.find import (
    Group,
    PluginError,
    import_object,
    import_path_of,
    installed_plugins,
    is_import_path,
)


@dataclass(frozen=True)
class Plugin:
    """An object of another package.

    Attributes:
        name: Name of the object as the user wrote it.
        path: Import path of the object, `package.module:Name`.
        distribution, version: Installed distribution that the object comes from; "" if it comes from none.
        source: SHA-256 (hexadecimal) of the file that defines the object; "" where the version of the
            distribution stands for the file.
    """

    name: str
    path: str
    distribution: str = ""
    version: str = ""
    source: str = ""

    @property
    def release(self) -> str:
        """Distribution and version, such as "my-heads 1.2", or the beginning of the hash of the file."""
        parts = [self.distribution, self.version, self.source[:8]]
        return " ".join(filter(None, parts))


class ImportedPlugin(NamedTuple):
    """An imported object of another package, and what a run records of it."""

    value: Any
    plugin: Plugin


def import_plugin(name: str, group: Group) -> ImportedPlugin:
    """Import an object by its import path, or by the name of an entry point.

    Raises:
        PluginError: There is no such entry point, or the object cannot be imported.
    """
    if is_import_path(name):
        value = import_object(name)
        return ImportedPlugin(value, _plugin(name, name, value, None))
    points = installed_plugins(group)
    if name not in points:
        declared = f"declare {', '.join(sorted(points))}" if points else "declare none"
        raise PluginError(
            f"there is no {name!r} in {group}{nearest(name, points)}: installed packages {declared}. "
            "Pass a declared name, or an import path such as package.module:Name"
        )
    point = points[name]
    path = import_path_of(point)
    value = import_object(path)
    return ImportedPlugin(value, _plugin(name, path, value, point.dist))


def identify(full_name: str, known: Sequence[Plugin] = ()) -> Plugin:
    """Return what a run records of an imported object with a full name, `package.module.Name`.

    Args:
        full_name: Full name of the object.
        known: What is known already. A module may have been edited since it was imported, so what was
            recorded of an object of the same module then stands for the object, too.

    Raises:
        PluginError: No module of that name is imported, or it lacks the object.
    """
    path = _import_path(full_name)
    plugin = _identity(full_name, path, import_object(path))
    module = path.partition(":")[0]
    for other in known:
        if other.path.partition(":")[0] == module:
            return replace(other, name=full_name, path=path)
    return plugin


def require_unchanged(recorded: Plugin) -> None:
    """Refuse an object whose code differs from what was recorded; this imports its module.

    The same file, or else the same version of the same distribution, counts as the same code.

    Raises:
        PluginError: The code differs, or the object cannot be imported.
    """
    found = import_object(recorded.path)
    today = _identity(recorded.name, recorded.path, found)
    file = _module_file(recorded.path, found)
    if recorded.source and file:
        today = replace(today, source=file_key(file).hex())
        same = today.source == recorded.source
    else:
        same = (today.distribution, today.version) == (recorded.distribution, recorded.version)
    if not same:
        raise PluginError(
            f"{recorded.path} is not the code that the heads were fitted with: that was {_of(recorded)}, and "
            f"{file} is {_of(today)}. Fit again, or restore that version of it"
        )


def _of(plugin: Plugin) -> str:
    """Return the version and the beginning of the hash, for a message."""
    release = f"{plugin.distribution} {plugin.version}".strip()
    source = f"SHA-256 {plugin.source[:8]}…" if plugin.source else ""
    return ", ".join(filter(None, [release, source])) or "of no known version"


def _import_path(full_name: str) -> str:
    """Return the path `package.module:Name` of a full name, with the longest module that is imported."""
    parts = full_name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if module in sys.modules:
            return f"{module}:{'.'.join(parts[length:])}"
    raise PluginError(f"{full_name} is in no module that is imported: move it into a module of a file")


def _identity(name: str, path: str, found: Any) -> Plugin:
    """Return what a run records of an object; the name alone if it is built into Python."""
    return _plugin(name, path, found, None) if _module_file(path, found) else Plugin(name, path)


def _plugin(
    name: str,
    path: str,
    value: Any,
    declared_by: Distribution | None,
) -> Plugin:
    file = _defining_file(path, value)
    owner = declared_by or _owner(file)
    distribution_name = owner.metadata["Name"] if owner else ""
    # An editable installation does not list its modules: they may change while the version stays.
    source = "" if owner and _lists(owner, file) else file_key(file).hex()
    return Plugin(name, path, distribution_name, owner.version if owner else "", source)


def _defining_file(path: str, value: Any) -> Path:
    """Return the file of the module that defines an object.

    Raises:
        PluginError: There is none.
    """
    file = _module_file(path, value)
    if file is None:
        raise PluginError(
            f"{path} is not defined in a file, so a run cannot record its content: move it into a module"
        )
    return file


def _module_file(path: str, value: Any) -> Path | None:
    """Return the file of the module that defines an object; the module of the path may import the object."""
    module = sys.modules[path.partition(":")[0]]
    if inspect.isclass(value) or inspect.isfunction(value):
        module = sys.modules.get(value.__module__, module)
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def _owner(file: Path) -> Distribution | None:
    """Return the installed distribution that lists a file; None where there is none."""
    for folder in sys.path:
        if file.is_relative_to(Path(folder).resolve()):
            for distribution in distributions(path=[folder]):
                if _lists(distribution, file):
                    return distribution
    return None


def _lists(owner: Distribution, file: Path) -> bool:
    """Whether a file is one of those that a distribution installed."""
    folder = Path(str(owner.locate_file(""))).resolve()
    if not file.is_relative_to(folder):
        return False
    record = "\n" + (owner.read_text("RECORD") or "")  # `owner.files` would take seconds for all packages
    return f"\n{file.relative_to(folder).as_posix()}," in record
