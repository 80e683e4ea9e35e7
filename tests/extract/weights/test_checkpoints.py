"""Checkpoints are read without running anything that they bring, and their state dicts are found by rule."""

import argparse
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tier4k.extract.weights.checkpoints import read_state_dict, read_state_dicts
from tier4k.extract.weights.files import WeightsError, file_weights
from tier4k.extract.weights.state_dicts import StateDict, choose
from tier4k.extract.weights.tensor_checks import require_finite, require_fit


class Exploit:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "save",
    [
        lambda content, path: torch.save(content, path),
        lambda content, path: path.write_bytes(pickle.dumps(content, 2)),
    ],
)
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, save) -> None:
    save({"conv1.weight": torch.zeros(1), "extra": Exploit(tmp_path / "mark")}, tmp_path / "evil.pth")
    with pytest.raises(
        WeightsError, match="evil.pth was not loaded: it contains pickled.*could run code.*state_dict"
    ):
        read_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.bin"])
@pytest.mark.parametrize("part", ["nothing", "half", "noise"])
def test_damaged_files_are_errors_that_name_the_file(tmp_path: Path, name: str, part: str) -> None:
    state = {"weight": torch.arange(1000.0)}
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"nothing": b"", "half": whole[: len(whole) // 2], "noise": np.random.default_rng(0).bytes(500)}[part]
    )
    with pytest.raises(WeightsError, match=f"{name}.*damaged"):
        read_state_dict(path)


@pytest.mark.parametrize("text", ["hello world", "(", "c", "\x80\x02}q", "I1\n.", "00", "a.b"])
def test_a_text_that_is_no_pickle_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.pth").write_text(text, encoding="latin-1")
    with pytest.raises(WeightsError, match=r"w.pth .*damaged"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, 2, device="meta"),
        torch.zeros(2, 2, dtype=torch.int8),
        torch.zeros(2, 2, dtype=torch.complex64),
    ],
)
def test_tensors_that_are_no_dense_real_numbers_are_refused_by_name(tensor: Tensor) -> None:
    with pytest.raises(WeightsError, match=r"w.pth: the tensor 'a' is .*save the tensors as dense"):
        require_fit({"a": torch.zeros(2, 2)}, {"a": tensor}, Path("w.pth"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_real_numbers_of_every_precision_fit(dtype: torch.dtype) -> None:
    found = {"a": torch.zeros(2, 2).to(dtype), "counter": torch.tensor(3.0)}
    require_fit({"a": torch.zeros(2, 2), "counter": torch.tensor(3)}, found, Path("w.pth"))


@pytest.mark.parametrize("content", [{}, [], torch.zeros(3), {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_a_file_without_state_dict_is_an_error(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="contains no state dict"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"a.w": 1, "b": 2}, ""),
        ({"net": {"a.w": 1, "b": 2}, "epoch": 3, "optimizer": {"state": {0: {"step": 5}}}}, "net"),
        ({"ema": {"module": {"a.w": 1, "b": 2}, "updates": 7}}, "ema/module"),
        ({"loss": 4, "params": {"a.w": 1, "b": 2}}, "params"),
    ],
)
def test_a_state_dict_is_found_under_any_keys_up_to_two_levels_deep(
    tmp_path: Path, content: dict, place: str
) -> None:
    torch.save(tensors_of(content), tmp_path / "w.pth")
    largest = max(read_state_dicts(tmp_path / "w.pth"), key=lambda state: len(state.tensors))
    assert largest.place == place
    assert read_state_dict(tmp_path / "w.pth") == {"a.w": torch.tensor(1), "b": torch.tensor(2)}


def tensors_of(content: object) -> object:
    """The content with a tensor in the place of each number."""
    if isinstance(content, dict):
        return {key: tensors_of(value) for key, value in content.items()}
    return torch.tensor(content)


def test_the_names_of_parallel_and_compiled_modules_lose_their_wrapper(tmp_path: Path) -> None:
    state = {"_orig_mod.module.a.w": torch.ones(2), "_orig_mod.module.blocks.0._orig_mod.b": torch.zeros(3)}
    torch.save(state, tmp_path / "w.pth")
    assert list(read_state_dict(tmp_path / "w.pth")) == ["a.w", "blocks.0.b"]
    mixed = {"module.a": torch.ones(2), "b": torch.zeros(3)}  # here "module" is a part of the network
    torch.save(mixed, tmp_path / "w.pth")
    assert list(read_state_dict(tmp_path / "w.pth")) == ["module.a", "b"]


def test_options_of_a_training_script_may_stand_beside_the_weights(tmp_path: Path) -> None:
    options = argparse.Namespace(lr=1e-3, data="somewhere")
    for new_format in (True, False):
        torch.save(
            {"model": {"w": torch.ones(2)}, "args": options},
            tmp_path / "w.pth",
            _use_new_zipfile_serialization=new_format,
        )
        assert torch.equal(read_state_dict(tmp_path / "w.pth")["w"], torch.ones(2))


def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match="whole.pth was not loaded.*Save only the state_dict"):
        read_state_dict(tmp_path / "whole.pth")


def test_two_equally_large_state_dicts_are_refused_with_both_names(tmp_path: Path) -> None:
    torch.save({"generator": {"w": torch.ones(2)}, "critic": {"w": torch.zeros(2)}}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="'generator' and 'critic'"):
        read_state_dict(tmp_path / "w.pth")


def states(*places: str) -> list[StateDict]:
    """State dicts of one network, each with a number of its own."""
    return [StateDict(place, {"w": torch.tensor(number)}) for number, place in enumerate(places)]


@pytest.mark.parametrize(
    "averaged",
    ["model_ema", "state_dict_ema", "ema", "ema_state_dict", "ema/module", "teacher/backbone.", "ema_model."],
)
def test_averaged_weights_are_preferred_and_reported(averaged: str) -> None:
    for both in (states("model", averaged), states(averaged, "model")):
        choice = choose(both, Path("w.pth"))
        assert choice.state.place == averaged
        (note,) = choice.notes
        assert f"(EMA) in {averaged!r} are used, those in 'model' are not" in note
    alone = choose(states(averaged), Path("w.pth"))
    assert alone.state.place == averaged and not alone.notes


@pytest.mark.parametrize("raw", ["model", "schema", "steamer.", "state_dict/backbone.", ""])
def test_letters_of_other_words_do_not_mean_an_average(raw: str) -> None:
    assert not StateDict(raw, {}).is_averaged


def test_several_networks_of_one_kind_are_refused_and_copies_of_one_are_not() -> None:
    for places in (("student", "model"), ("ema", "teacher", "model")):
        with pytest.raises(WeightsError, match=f"w.pth holds several.*{places[0]!r} and {places[1]!r}"):
            choose(states(*places), Path("w.pth"))
    copies = [StateDict(place, {"w": torch.ones(3)}) for place in ("encoder.", "model.encoder.")]
    assert choose(copies, Path("w.pth")).state.place == "encoder."


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_values_that_are_no_numbers_are_refused_by_the_name_of_their_tensor(
    value: float, dtype: torch.dtype
) -> None:
    good = {"a": torch.ones(5, dtype=dtype), "steps": torch.tensor(3), "none": torch.zeros(0, dtype=dtype)}
    require_finite(good, Path("w.pth"))
    bad = torch.ones(2, 3, dtype=dtype)
    bad[1, 1] = value
    with pytest.raises(WeightsError, match="w.pth: the tensor 'b.weight' contains NaN or infinity"):
        require_finite({**good, "b.weight": bad}, Path("w.pth"))


def write_shards(folder: Path, state: dict[str, Tensor]) -> Path:
    """A state dict in two files with an index, as Hugging Face writes large models."""
    names = sorted(state)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def test_shards_are_read_through_their_index_or_their_folder(tmp_path: Path) -> None:
    state = {name: torch.randn(3) for name in "abc"}
    index = write_shards(tmp_path, state)
    weights = file_weights(index, "test")
    assert file_weights(tmp_path, "test") == weights and weights.path == index
    found = read_state_dict(weights.path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_the_hash_of_shards_follows_the_index_and_every_shard(tmp_path: Path) -> None:
    index = write_shards(tmp_path, {name: torch.zeros(3) for name in "abc"})
    seen = {file_weights(index, "test").sha256}
    for path in sorted(tmp_path.iterdir()):
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        seen.add(file_weights(index, "test").sha256)
        path.write_bytes(before)
    assert len(seen) == 4


def test_a_shard_or_tensor_that_is_missing_is_named(tmp_path: Path) -> None:
    index = write_shards(tmp_path, {name: torch.zeros(3) for name in "abc"})
    second = tmp_path / "model-00002-of-00002.safetensors"
    save_file({"z": torch.zeros(3)}, second)
    with pytest.raises(WeightsError, match=f"{second.name} has the tensor 'b', but no file has it"):
        read_state_dict(index)
    second.unlink()
    with pytest.raises(WeightsError, match=f"needs 2 files, of which {second.name} is missing"):
        file_weights(index, "test")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}']
    + [f'{{"weight_map": {{"a": {name}}}}}' for name in ('"../w.bin"', '"/etc/w"', "3", '".."', '"a\\\\b"')],
)
def test_an_index_that_is_none_or_leads_elsewhere_is_refused(tmp_path: Path, content: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(WeightsError, match="index.json is not an index of sharded weights"):
        file_weights(index, "test")
