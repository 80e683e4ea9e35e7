"""Names of heads: of tier4k, entry points of installed packages, and import paths. Nothing is imported."""

from typing import get_args

from tier4k.cache.text import nearest
from tier4k.extract.plugins.find import Group, installed_plugins, is_import_path
from tier4k.heads.regressors.choices import HeadName
from tier4k.heads.regressors.options import HeadError

GROUP: Group = "tier4k.heads"

OURS: tuple[str, ...] = get_args(HeadName)


def is_head(name: str) -> bool:
    """Whether a name can be that of a head."""
    return name in OURS or is_import_path(name) or name in installed_plugins(GROUP)


def head_names() -> str:
    """Return the names of all heads, and the form of import paths, for messages."""
    names = [*OURS, *(name for name in installed_plugins(GROUP) if name not in OURS)]
    return f"{', '.join(names)}, or the import path of a head of your own, such as package.module:Class"


def require_head(name: str) -> None:
    """Refuse a name that no head has.

    Raises:
        HeadError: There is no such head.
    """
    if not is_head(name):
        close = nearest(name, [*OURS, *installed_plugins(GROUP)])
        raise HeadError(f"there is no head {name!r}{close}: use {head_names()}")
