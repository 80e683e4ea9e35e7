"""Stored heads with code of users are read only with the code that they were fitted with."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tier4k.cache.signature import Signature
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.own_heads import own_head
from tier4k.heads.regressors.registry import head_plugins, make_head, resolve_options
from tier4k.heads.results.model import EXPORTED_FILE, MODEL_FILE, Model, ModelError
from tier4k.heads.results.read_model import read_model
from tier4k.tests.builders.feature_sets import feature_set
from tier4k.tests.builders.own_heads import HEADS, install, write_module

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
SCORES = np.random.default_rng(1).uniform(1, 5, 12)
IMAGES = Signature("image", "resnet18", "resnet18", "ab" * 32, "torchvision", "pooled", "fp32")
KEY = ("MOS", 0)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the search path with two packages of a user: a module alone, and an installed one."""
    folder = tmp_path / "packages"
    write_module(folder, "code_module")
    install(folder, "code_package", {"code-own": "Own"})
    monkeypatch.syspath_prepend(folder)
    yield folder
    forget()


def forget() -> None:
    """Let the next import read the files of the packages, as a new process does."""
    own_head.cache_clear()
    for module in ("code_module", "code_package"):
        sys.modules.pop(module, None)


def stored(folder: Path, name: str, trust: str) -> tuple[Path, Path]:
    """Fit a head; return its folder as a run and as an exported model."""
    options = resolve_options(name, "cached", "resnet18", {})
    head = make_head(name, options, 0).fit(X, SCORES)
    head_class = head_plugins(name)[0].path if name.endswith("Stiff") else ""
    model = Model(
        folder / "run",
        "nr",
        name,
        options,
        {"image": IMAGES},
        (),
        {KEY: head},
        {KEY: 0},
        {},
        streams=("image",),
        head_class=head_class,
        code=head_plugins(name),
    )
    model.folder.mkdir()
    model.write(MODEL_FILE)
    exported = replace(read_model(model.folder, [trust]), folder=folder / "exported")
    exported.folder.mkdir()
    exported.write(EXPORTED_FILE)
    return model.folder, exported.folder


@pytest.mark.parametrize("name", ["Own", "Stiff"])
def test_heads_of_an_edited_module_are_refused_until_it_is_restored(
    tmp_path: Path,
    packages: Path,
    name: str,
) -> None:
    trust = f"code_module.{name}"
    folders = stored(tmp_path, f"code_module:{name}", trust)
    file = packages / "code_module" / "__init__.py"
    file.write_text(HEADS.replace("+ 1", "+ 10"))
    forget()
    for folder in folders:
        with pytest.raises(ModelError) as caught:
            read_model(folder, [trust])
        text = str(caught.value)
        assert str(file) in text and text.count("SHA-256") == 2
        assert "Fit again, or restore that version" in text
    file.write_text(HEADS)
    forget()
    for folder in folders:
        predicted = read_model(folder, [f"code_module:{name}"]).heads[KEY].predict(X)
        assert predicted.shape == (12,)


def test_heads_of_another_release_are_refused(tmp_path: Path, packages: Path) -> None:
    folder, _ = stored(tmp_path, "code-own", "code_package.Own")
    (packages / "code_package-1.2.dist-info").rename(packages / "code_package-1.3.dist-info")
    for path in (packages / "code_package-1.3.dist-info").iterdir():
        path.write_text(path.read_text().replace("Version: 1.2", "Version: 1.3"))
    forget()
    with pytest.raises(ModelError, match=r"that was code_package 1\.2, and .* is code_package 1\.3"):
        read_model(folder, ["code_package.Own"])


def test_an_edit_between_the_import_and_the_end_of_the_fit_is_noticed(tmp_path: Path, packages: Path) -> None:
    own_head("code_module:Own")
    (packages / "code_module" / "__init__.py").write_text(HEADS + "\n# edited\n")
    with pytest.raises(ModelError, match="code_module:Own is not the code"):
        stored(tmp_path, "code_module:Own", "code_module.Own")


def test_heads_whose_module_is_missing_are_refused_with_the_remedy(
    tmp_path: Path,
    packages: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = stored(tmp_path, "code_module:Own", "code_module.Own")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(packages)])
    forget()
    with pytest.raises(
        ModelError, match=r"folder of code_module\.py, or set PYTHONPATH.*install the package"
    ):
        read_model(folder, ["code_module.Own"])


def test_without_trust_nothing_is_imported(tmp_path: Path, packages: Path) -> None:
    folder, _ = stored(tmp_path, "code_module:Own", "code_module.Own")
    forget()
    with pytest.raises(ModelError, match="--trust code_module.Own"):
        read_model(folder)
    assert "code_module" not in sys.modules


def test_an_error_of_a_users_class_in_predictions_names_the_head(packages: Path) -> None:
    class Broken:
        averages_crops = True

        def predict(self, X: np.ndarray) -> np.ndarray:  # noqa: ARG002
            raise KeyError("lost")

    features = feature_set(rows=4)
    name = "code_module:Stiff"
    heads = {KEY: Broken()}
    model = Model(Path(), "nr", name, {}, {}, (), heads, {}, {}, head_class=name)  # type: ignore[arg-type]
    with pytest.raises(HeadError, match="Stiff head cannot predict: KeyError: 'lost'"):
        model.predict(features)
