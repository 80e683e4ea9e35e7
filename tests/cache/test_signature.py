"""Every field distinguishes a signature from others; a store of another signature is refused."""

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from tier4k.cache.errors import StoreError
from tier4k.cache.listing import stores
from tier4k.cache.signature import FORMAT_VERSION, Signature, SignatureError
from tier4k.cache.store import FeatureStore
from tier4k.tests.builders.stores import SIGNATURE

FIELDS = [field.name for field in fields(Signature)]
TEXTS = [name for name in FIELDS if name != "format"]


def changed(name: str) -> Signature:
    other = FORMAT_VERSION + 1 if name == "format" else "other"
    return replace(SIGNATURE, **{name: other})


def tamper(store: FeatureStore, **values: object) -> None:
    file = store.path / "signature.json"
    record = json.loads(file.read_text())
    record["signature"].update(values)
    file.write_text(json.dumps(record))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore.create(tmp_path, SIGNATURE, {"torch": "2.6"})


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_changes_the_digest_and_the_folder(name: str) -> None:
    assert changed(name).digest != SIGNATURE.digest
    assert changed(name).folder_name != SIGNATURE.folder_name


def test_equal_signatures_have_equal_digests() -> None:
    assert replace(SIGNATURE).digest == SIGNATURE.digest


def test_a_value_that_moves_to_another_field_changes_the_digest() -> None:
    one = replace(SIGNATURE, encoder="a", architecture="b")
    other = replace(SIGNATURE, encoder="b", architecture="a")
    assert one.digest != other.digest


@pytest.mark.parametrize("encoder", ["timm:convnext_tiny", "org/model", "../../etc", "a b\n*", "猫"])
def test_a_folder_name_is_one_plain_name_whatever_the_encoder_is_called(encoder: str) -> None:
    signature = replace(SIGNATURE, encoder=encoder)
    name = signature.folder_name
    assert Path(name).name == name
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name
    assert name.endswith(signature.digest)


@pytest.mark.parametrize("name", FIELDS)
def test_a_difference_is_reported_with_both_values_and_the_remedy(name: str) -> None:
    other = changed(name)
    asked = getattr(other, name)
    stored = getattr(SIGNATURE, name)
    assert SIGNATURE.differences(asdict(other)) == {name: (asked, stored)}
    with pytest.raises(SignatureError) as caught:
        SIGNATURE.require(other, "extract again")
    message = str(caught.value)
    assert f"{name}: {asked!r} was requested, the store has {stored!r}" in message
    assert "extract again" in message


def test_an_equal_signature_is_accepted() -> None:
    SIGNATURE.require(replace(SIGNATURE), "extract again")


def test_a_signature_survives_json() -> None:
    assert Signature.from_dict(json.loads(json.dumps(asdict(SIGNATURE)))) == SIGNATURE


@pytest.mark.parametrize("name", FIELDS)
def test_a_missing_field_is_refused(name: str) -> None:
    values = asdict(SIGNATURE)
    del values[name]
    with pytest.raises(SignatureError, match="signature.* must"):
        Signature.from_dict(values)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(SignatureError, match="colour"):
        Signature.from_dict(asdict(SIGNATURE) | {"colour": "red"})


@pytest.mark.parametrize("value", [None, 1, ["image"], {"a": "b"}, b"image"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_field_that_is_not_a_text_is_refused(name: str, value: object) -> None:
    with pytest.raises(SignatureError, match="signature.* must"):
        Signature.from_dict(asdict(SIGNATURE) | {name: value})


@pytest.mark.parametrize("values", [None, [], "text", 1, {}, list(asdict(SIGNATURE))])
def test_a_value_without_fields_is_refused(values: object) -> None:
    with pytest.raises(SignatureError, match="signature.* must"):
        Signature.from_dict(values)


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1, str(FORMAT_VERSION), None, [FORMAT_VERSION]])
def test_another_format_version_is_refused_and_named(version: object) -> None:
    with pytest.raises(SignatureError) as caught:
        Signature.from_dict(asdict(SIGNATURE) | {"format": version})
    message = str(caught.value)
    assert repr(version) in message
    assert "extract again" in message


def test_a_store_keeps_its_signature_and_versions(store: FeatureStore) -> None:
    opened = FeatureStore.open(store.path)
    assert opened.signature == SIGNATURE
    assert opened.versions == {"torch": "2.6"}


def test_creating_again_opens_the_same_store_whatever_the_versions(
    store: FeatureStore, tmp_path: Path
) -> None:
    again = FeatureStore.create(tmp_path, SIGNATURE, {"torch": "9"})
    assert again.path == store.path
    assert again.versions == {"torch": "2.6"}


def test_all_stores_under_a_folder_are_found(store: FeatureStore, tmp_path: Path) -> None:
    other = FeatureStore.create(tmp_path, changed("precision"), {})
    (tmp_path / "no-store").mkdir()
    assert {found.path for found in stores(tmp_path)} == {store.path, other.path}


@pytest.mark.parametrize("name", TEXTS)
def test_a_changed_signature_file_is_refused(store: FeatureStore, tmp_path: Path, name: str) -> None:
    tamper(store, **{name: "other"})
    with pytest.raises(SignatureError, match="was changed"):
        FeatureStore.open(store.path)
    with pytest.raises(SignatureError, match="was changed"):
        FeatureStore.create(tmp_path, SIGNATURE, {})


def test_a_store_of_another_format_is_refused(store: FeatureStore) -> None:
    tamper(store, format=FORMAT_VERSION + 1)
    with pytest.raises(SignatureError, match=f"version {FORMAT_VERSION + 1}"):
        FeatureStore.open(store.path)


def test_a_renamed_folder_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    renamed = store.path.rename(tmp_path / changed("weights").folder_name)
    with pytest.raises(SignatureError, match=SIGNATURE.digest):
        FeatureStore.open(renamed)


def test_a_store_may_move_to_another_place(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = store.path.rename(tmp_path / "elsewhere" / store.path.name)
    assert FeatureStore.open(moved).signature == SIGNATURE


CONTENTS = [b"", b"{", b"[]", b"1", b"null", b"{}", b"\xff\xfe", b'{"signature": {}}', b'{"versions": {}}']


@pytest.mark.parametrize("content", CONTENTS)
def test_a_signature_file_that_cannot_be_read_is_refused(store: FeatureStore, content: bytes) -> None:
    (store.path / "signature.json").write_bytes(content)
    with pytest.raises((StoreError, SignatureError)):
        FeatureStore.open(store.path)


def test_a_folder_without_signature_file_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a feature store"):
        FeatureStore.open(tmp_path)
