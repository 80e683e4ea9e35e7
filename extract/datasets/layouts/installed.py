"""The layouts that data may have: those of installed packages, then ours.

A package declares a layout in its pyproject.toml:

    [project.entry-points."tier4k.layouts"]
    ourset = "our_package.layouts:OURSET"    # a `tier4k.Layout`
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint

from tier4k.cache.text import nearest
from tier4k.extract.datasets.errors import DataError
from tier4k.extract.datasets.layouts.layout import Layout
from tier4k.extract.datasets.layouts.published import LAYOUTS
from tier4k.extract.plugins.find import PluginError, import_object, installed_plugins


def all_layouts() -> Mapping[str, Layout]:
    """Return all layouts by name, in the order in which they are tried.

    Raises:
        PluginError: The layout of a package cannot be used.
    """
    return _all_layouts(tuple(sys.path))


def layout_named(name: str) -> Layout:
    """Return a layout by its name.

    Raises:
        DataError: There is no such layout.
        PluginError: The layout of a package cannot be used.
    """
    layouts = all_layouts()
    if name not in layouts:
        known = ", ".join(layouts)
        raise DataError(f"--layout: there is no layout {name!r}{nearest(name, layouts)}: use one of {known}")
    return layouts[name]


@cache
def _all_layouts(_search_path: tuple[str, ...]) -> dict[str, Layout]:
    """Return all layouts for one module search path, as looking for packages takes tens of milliseconds."""
    found: dict[str, Layout] = {}
    for name, point in installed_plugins("tier4k.layouts").items():
        found[name] = _layout(name, point)
    return found | dict(LAYOUTS)


def _layout(name: str, point: EntryPoint) -> Layout:
    """Import the layout of a package."""
    package = f"{point.dist.name} {point.dist.version}" if point.dist else f"{point.module} unknown"
    if name in LAYOUTS:
        raise PluginError(
            f"the package {package} declares the layout {name!r}, which is a name of tier4k: ask its authors "
            "for another name, or uninstall it"
        )
    try:
        layout = import_object(point.value)
    except PluginError as error:
        raise PluginError(
            f"the layout {name!r} of the package {package} is of no use: {error}. Update the package, or "
            "uninstall it"
        ) from error
    if not isinstance(layout, Layout):
        raise PluginError(
            f"the layout {name!r} of the package {package} ({point.value}) is {type(layout).__name__}, not a "
            "tier4k.Layout: update the package, or uninstall it"
        )
    return replace(layout, name=name, package=package)
