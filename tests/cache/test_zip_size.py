"""Archives that unpack to far more than they have are not read."""

import io
import zipfile
from pathlib import Path

import pytest
from sklearn.linear_model import Ridge

from tier4k.cache import zip_size
from tier4k.cache.zip_size import why_too_large
from tier4k.extract.weights.files import WeightsError, file_weights
from tier4k.heads.results.estimators import EstimatorError, load_estimator, saved_estimator

ZEROS = 2**20


@pytest.fixture(autouse=True)
def _little_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_size, "SPARE", 2**16)


def archive(compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as opened:
        opened.writestr("schema.json", bytes(ZEROS))
    return buffer.getvalue()


def test_an_archive_that_unpacks_to_much_more_is_refused_with_both_sizes() -> None:
    assert why_too_large(archive(zipfile.ZIP_DEFLATED)) == "it has 0.0 MB and would unpack to 1 MB"
    assert why_too_large(archive(zipfile.ZIP_STORED)) is None
    assert why_too_large(b"no archive") is None


def test_the_size_of_weights_is_checked_before_they_are_read(tmp_path: Path) -> None:
    for name in ("net.npz", "net.pth"):
        (tmp_path / name).write_bytes(archive(zipfile.ZIP_DEFLATED))
        with pytest.raises(WeightsError, match=f"{name} is not read: .*would unpack to 1 MB"):
            file_weights(tmp_path / name, "test")
        (tmp_path / name).write_bytes(archive(zipfile.ZIP_STORED))
        assert file_weights(tmp_path / name, "test")


def test_the_size_of_an_estimator_is_checked_before_it_is_read() -> None:
    with pytest.raises(EstimatorError, match="would unpack to 1 MB; fit the run again"):
        load_estimator(archive(zipfile.ZIP_DEFLATED), ())
    assert isinstance(load_estimator(saved_estimator(Ridge()), ()), Ridge)
