"""Packages of users with heads of their own, as an installer leaves them in a folder of packages."""

from collections.abc import Mapping
from pathlib import Path

HEADS = '''
"""Heads of a user."""

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tier4k.heads.regressors.ridge import RidgeHead


def linear():
    return make_pipeline(StandardScaler(), Ridge(alpha=3.0))


def seeded():
    return ExtraTreesRegressor(3, random_state=5)


def unsavable():
    return make_pipeline(FunctionTransformer(lambda X: X), Ridge())


class Own(Ridge):
    pass


class Failing(Ridge):
    def fit(self, X, y):
        check(y)


def check(y):
    raise RuntimeError("no\\nluck")


class Unconventional(RegressorMixin, BaseEstimator):
    def __init__(self, alpha=1.0):
        self.penalty = alpha

    def fit(self, X, y):
        return self

    def predict(self, X):
        return X[:, 0]


class Narrow(Ridge):
    def predict(self, X):
        return super().predict(X)[:-1]


class Undefined(Ridge):
    def predict(self, X):
        return np.where(np.arange(len(X)) < 3, np.nan, 1.0)


class Stiff(RidgeHead):
    """A head of our conventions."""

    def _predict(self, X):
        return super()._predict(X) + 1
'''


def write_module(folder: Path, package: str) -> Path:
    """Write a package with heads, which belongs to no distribution; return its file."""
    path = folder / package / "__init__.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADS, encoding="utf-8")
    return path


def install(
    folder: Path,
    package: str,
    heads: Mapping[str, str],
    version: str = "1.2",
    editable: bool = False,
) -> Path:
    """Write a package with heads as an installed distribution; return the package's file.

    Args:
        folder: Folder of packages, which is on the search path of modules.
        package: Name of the package and of the distribution.
        heads: Objects of the package by the names of their entry points.
        version: Version of the distribution.
        editable: Whether the distribution does not list the package's files.
    """
    path = write_module(folder, package)
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [f"{name} = {package}:{attribute}\n" for name, attribute in heads.items()]
    (info / "entry_points.txt").write_text("[tier4k.heads]\n" + "".join(lines))
    (info / "top_level.txt").write_text(f"{package}\n")
    files = [f"{info.name}/METADATA,,", f"{info.name}/RECORD,,"]
    if not editable:
        files.append(f"{package}/__init__.py,,")
    (info / "RECORD").write_text("\n".join(files) + "\n")
    return path
