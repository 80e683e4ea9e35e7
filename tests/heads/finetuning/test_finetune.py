"""Encoders and head trained together: published losses, the same values after a kill, reusable encoders."""

import fcntl
import json
import os
import re
import resource
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save, save_file
from typer.testing import CliRunner

from tier4k import cli
from tier4k.cache.atomic import publish_text
from tier4k.cache.listing import stores as feature_stores
from tier4k.cache.signature import Signature
from tier4k.cache.store import FeatureStore
from tier4k.extract.datasets.check import check
from tier4k.extract.datasets.manifest import Manifest
from tier4k.extract.encoders.encoder import ImageEncoder
from tier4k.extract.encoders.find import find_image_encoder, find_text_encoder
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.encoders.presets import image_preset
from tier4k.extract.images.memory_map import DecodedImages
from tier4k.extract.pipeline.load import load_network
from tier4k.extract.pipeline.seen_images import SEEN_FOLDER
from tier4k.extract.weights.files import file_weights
from tier4k.heads.data.splits import Split
from tier4k.heads.data.stored_splits import StoredSplit, StoredSplits
from tier4k.heads.encoders.finetuned import finetuned_encoders, write_image
from tier4k.heads.encoders.pair import EncoderPair
from tier4k.heads.encoders.seen_images import FinetunedError, require_unseen
from tier4k.heads.finetuning.batches import Batches, InputRows
from tier4k.heads.finetuning.checkpoints import BEST, LAST
from tier4k.heads.finetuning.finetune import finetune
from tier4k.heads.finetuning.inputs import TrainingInputs
from tier4k.heads.finetuning.network import TierNetwork
from tier4k.heads.finetuning.recipe import finetuning_recipe
from tier4k.heads.finetuning.trainer import Trainer
from tier4k.heads.inference.predict import EXPORTED
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.regressors.mlp.stack import HeadNetwork
from tier4k.heads.results.read import read_curves, read_predictions
from tier4k.heads.results.read_model import read_model
from tier4k.tests.builders.golden import fill, write_dataset
from tier4k.tests.golden.head_values import small_encoders
from tier4k.tests.golden.test_published_features import GOLDEN


@pytest.mark.slow  # the golden heads hold the losses of small networks
@pytest.mark.parametrize(("method", "benchmark"), [("nr", "all"), ("fr", "I2I")])
def test_losses_of_the_published_training(
    golden_project: Path, method: Any, benchmark: Any, tmp_path: Path
) -> None:
    manifest = check(golden_project / "Dataset").manifest.select(benchmark)
    image = find_image_encoder(ImageChoice("resnet18"), folders=[golden_project])
    text = find_text_encoder("bert-base-uncased", folders=[golden_project])
    images, texts = load_network(image), load_network(text)
    head = HeadNetwork(GOLDEN[f"{method.upper()}_features"].shape[1])
    head.load_state_dict(fill(head.state_dict(), 72))
    changed = {"batch_size": 12, "max_epochs": 4, "augment": False}
    recipe = finetuning_recipe("all", "published", "resnet18", changed)
    assert recipe.learning_rate == recipe.head_learning_rate == 1e-4
    pictures = DecodedImages(manifest.images(), image.preprocessing, 1)
    batches = Batches(
        InputRows.of(manifest), pictures, texts, method, (), recipe.augment, shared=False, seed=0
    )
    scores, everything = manifest.table["MOS_q"].to_numpy(), np.arange(len(manifest))
    split = Split(everything, everything[:0], everything[:2], seed=0)
    network = TierNetwork(images, texts, head, method)
    history = Trainer(network, batches, scores, split, recipe, Accelerator(cpu=True), tmp_path).run()
    np.testing.assert_allclose(history.training_loss, GOLDEN[f"{method.upper()}_losses"], rtol=1e-3)


ARGUMENTS = [
    "fit-head",
    "Dataset",
    "--image-encoder",
    "resnet18",
    "--text-encoder",
    "bert-base-uncased",
    "--finetune",
    "all",
]
SMALL = [
    "--target",
    "MOS_q",
    "--split",
    "random",
    "--repeats",
    "1",
    "--epochs",
    "2",
    "--set",
    "hidden=8",
    "--set",
    "average=0.5",
]


def run(*arguments: str) -> Path:
    """The folder of a run that is in runs/ afterwards."""
    result = CliRunner().invoke(cli.app, [*ARGUMENTS, *SMALL, *arguments])
    assert result.exit_code == 0, result.output
    (folder,) = {path for path in Path("runs").iterdir() if path.name in result.output}
    return folder


def interrupted_after_an_epoch(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Path:
    """Ctrl-C when the first checkpoint is there; the folder of the checkpoints."""
    save = Trainer._save

    def interrupt(self: Trainer) -> None:
        save(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", interrupt)
        result = CliRunner().invoke(cli.app, [*ARGUMENTS, *SMALL, *arguments])
    assert result.exit_code == 130
    assert "run the same command again" in result.output
    assert not list(Path("runs").glob("[!.]*"))  # no run yet
    (folder,) = Path("runs").glob(".*.partial")
    return folder


@pytest.mark.slow
def test_an_interrupted_training_continues_after_its_last_epoch(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_predictions(run("--out", "runs"))
    shutil.rmtree("runs")
    interrupted_after_an_epoch(monkeypatch)
    epochs, save = [], Trainer._save
    monkeypatch.setattr(Trainer, "_save", lambda self: (epochs.append(self.history.epochs), save(self)))
    again = run()
    assert epochs == [2]
    pd.testing.assert_frame_equal(read_predictions(again), expected, check_exact=True)
    assert [path.name for path in Path("runs").iterdir()] == [again.name]  # no checkpoint is left


def refused(*arguments: str) -> str:
    """The output of a training that is refused."""
    result = CliRunner().invoke(cli.app, [*ARGUMENTS, *SMALL, *arguments])
    assert result.exit_code == 2, result.output
    return result.output


@pytest.mark.slow
def test_every_obstacle_to_a_training_is_reported_and_training_continues_once_it_is_removed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = interrupted_after_an_epoch(monkeypatch)
    (last,) = folder.rglob(LAST)
    sound = last.read_bytes()
    for damaged in (sound[: len(sound) // 2], save({"history.seconds": torch.zeros(1)}), b""):
        last.write_bytes(damaged)
        assert f"delete {last.parent} and run the same command again" in refused()
    last.write_bytes(sound)
    picture = next(Path("Dataset").rglob("All/*.png"))
    picture.rename("elsewhere.png")
    assert picture.name in refused()
    Path("elsewhere.png").rename(picture)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as another process that trains the same
    assert "another process is training this run" in refused()
    os.close(descriptor)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000_000, limit[1])
    )  # enough for decoded images, too little for a checkpoint
    try:
        output = refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "cannot write to" in output and "Files that were written before are intact" in output
    assert last.read_bytes() == sound
    assert sorted(path.name for path in last.parent.iterdir()) == [BEST, LAST]
    done = run()
    assert [path.name for path in Path("runs").iterdir()] == [done.name]
    # A process killed between publishing and clearing up leaves checkpoints, which the next call removes.
    folder.mkdir()
    last.parent.mkdir(parents=True)
    last.write_bytes(sound)
    assert run() == done
    assert [path.name for path in Path("runs").iterdir()] == [done.name]


@pytest.mark.slow
def test_a_training_that_diverges_is_reported_and_leaves_no_files(project: Path) -> None:
    assert (
        "use a smaller --learning-rate"
        in refused("--learning-rate", "1e3", "--epochs", "20", "--set", "gradient_clip=0").lower()
    )
    assert not list(Path("runs").iterdir())


@pytest.mark.slow
def test_encoders_of_a_run_reproduce_its_predictions(project: Path) -> None:
    folder = run()
    result = CliRunner().invoke(cli.app, ["extract", "Dataset", "--finetuned", str(folder)])
    assert result.exit_code == 0, result.output
    image, text = re.findall(r"--(?:image|text)-encoder (\S+)", result.output)
    stores = ["--image-encoder", image, "--text-encoder", text]
    best = shlex.split(re.findall(r"also pass (.+) \(", result.output)[0])
    result = CliRunner().invoke(cli.app, ["features", "Dataset", "-o", "X.npz", *stores])
    assert result.exit_code == 0, result.output
    with np.load("X.npz") as file:
        fused, names = file["X"], file["name"]
    head = read_model(folder).heads["MOS_q", 0]
    expected = read_predictions(folder).set_index("name")["prediction"]
    found = pd.Series(head.predict(fused), names)[expected.index]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    # So does a head that starts from the run's with learning rate 0; one that learns is another run.
    start = ["fit-head", "Dataset", *stores, *best, "--set", "hidden=8", "--out", "started"]
    for options in (["--learning-rate", "0"], []):
        result = CliRunner().invoke(cli.app, [*start, *options])
        assert result.exit_code == 0, result.output
    found = [
        read_predictions(path).set_index("name")["prediction"][expected.index]
        for path in sorted(Path("started").iterdir())
    ]
    near = [np.allclose(one, expected, rtol=1e-4) for one in found]
    assert True in near
    assert len(found) == 2
    # On the split of the run a head may be fitted on them; on another one the encoders have seen test images.
    same = ["fit-head", "Dataset", *stores, "--target", "MOS_q", "--split", "random", "--repeats", "1"]
    result = CliRunner().invoke(cli.app, same)
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(cli.app, [*same, "--seed", "1"])
    assert result.exit_code == 2
    assert "were finetuned on" in result.output
    # Names of the untrained encoders still find their own stores.
    result = CliRunner().invoke(cli.app, ["features", "Dataset", "-o", "Y.npz", *ARGUMENTS[2:6]])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("method", "benchmark"),
    [
        pytest.param("nr", "all", marks=pytest.mark.slow),
        pytest.param("fr", "I2I", marks=pytest.mark.slow),
        pytest.param("pr", "all", marks=pytest.mark.slow),
    ],
)
def test_new_images_are_scored_by_the_encoders_of_the_run_and_of_its_export(
    project: Path, tmp_path: Path, method: str, benchmark: str
) -> None:
    folder = run("--method", method, "--benchmark", benchmark, "--epochs", "1")
    expected = read_predictions(folder).set_index("name")["prediction"]
    annotation = (
        pd.read_excel("Dataset/PKU-AIGIQA-4K/annotation.xlsx")
        .set_index("Generated_image")
        .loc[expected.index]
    )
    columns = {"Text_prompt": "prompt", "Image_prompt": "image_prompt"}
    tested = annotation.rename(columns=columns).rename_axis("image")[list(columns.values())].reset_index()
    tested["image"] = "Dataset/PKU-AIGIQA-4K/All/" + tested["image"]
    tested["image_prompt"] = "Dataset/PKU-AIGIQA-4K/I2I/Image_prompt/" + tested["image_prompt"]
    tested.to_csv("tested.csv", index=False)
    result = CliRunner().invoke(cli.app, ["export", str(folder), str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    for model, features, filled in (
        (folder, "features", "features"),
        (tmp_path / "model", "anew", f"anew/{EXPORTED}"),
    ):
        result = CliRunner().invoke(
            cli.app, ["predict", str(model), "tested.csv", "-F", features, "-o", "scores.csv"]
        )
        assert result.exit_code == 0, result.output
        found = pd.read_csv("scores.csv")["score"]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert_recorded(Path(filled), 2)


def assert_recorded(features: Path, count: int) -> None:
    """`count` stores are of finetuned encoders, and the images that trained each of them are recorded."""
    finetuned = [store for store in feature_stores(features) if "@" in store.signature.encoder]
    assert len(finetuned) == count
    assert {path.stem for path in (features / SEEN_FOLDER).iterdir()} == {
        store.signature.weights for store in finetuned
    }


@pytest.mark.slow
def test_images_seen_by_finetuned_encoders_are_recorded_beside_every_store_of_their_features(
    project: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(cli.app, ["extract", "Dataset", "--finetuned", str(run("--epochs", "1"))])
    assert result.exit_code == 0, result.output
    image, text = re.findall(r"--(?:image|text)-encoder (\S+)", result.output)
    fit = [
        "fit-head",
        "Dataset",
        "--target",
        "MOS_q",
        "--split",
        "random",
        "--repeats",
        "1",
        "--head",
        "ridge",
    ]
    stores = ["--image-encoder", image, "--text-encoder", text]
    result = CliRunner().invoke(cli.app, [*fit, *stores, "--out", "runs"])
    assert result.exit_code == 0, result.output
    (folder,) = {path for path in Path("runs").iterdir() if path.name in result.output}
    result = CliRunner().invoke(cli.app, ["export", str(folder), str(tmp_path / "model")])
    assert result.exit_code == 0, result.output
    for model, given in ((folder, "new"), (tmp_path / "model", "anew")):
        result = CliRunner().invoke(cli.app, ["predict", str(model), "Dataset", "-F", given])
        assert result.exit_code == 0, result.output
        features = Path(given) if model == folder else Path(given) / EXPORTED
        assert_recorded(features, 2)
        known = {store.signature.stream: store.path.name for store in feature_stores(features)}
        others = [
            "--image-encoder",
            known["image"],
            "--text-encoder",
            known["text"],
            "--seed",
            "1",
            "-F",
            str(features),
        ]
        result = CliRunner().invoke(cli.app, [*fit, *others])
        assert result.exit_code == 2
        assert "were finetuned on" in result.output
    # Without that record no head is fitted.
    shutil.rmtree(Path("features") / SEEN_FOLDER)
    result = CliRunner().invoke(cli.app, [*fit, *stores, "--seed", "1"])
    assert result.exit_code == 2
    assert "run `tier extract Dataset --finetuned RUN` again" in result.output


@pytest.mark.slow
def test_finetuned_weights_are_known_by_their_content_under_any_name_and_in_any_folder(
    project: Path, tmp_path: Path
) -> None:
    folder = run("--epochs", "1")
    encoders = folder / "encoders" / "MOS_q" / "0"
    image = shutil.copy(encoders / "image.safetensors", tmp_path / "mine.safetensors")
    text = shutil.copytree(encoders / "text", tmp_path / "bert")
    names = ARGUMENTS[2:6]
    fit = ["fit-head", "Dataset", *names, *SMALL[:6], "--head", "ridge"]
    weights = {"image": ["--image-weights", str(image)], "text": ["--text-weights", str(text)]}
    for stream, option in weights.items():
        extract = ["extract", "Dataset", *names, *option, "-F", stream]
        assert CliRunner().invoke(cli.app, extract).exit_code == 0
        assert not any("@" in store.signature.encoder for store in feature_stores(Path(stream)))
        other_split = CliRunner().invoke(cli.app, [*fit, "-F", stream, "--seed", "1"])
        assert other_split.exit_code == 2
        assert "the encoders were finetuned on" in " ".join(other_split.output.split())
        # The test rows of the training were never seen.
        same_split = CliRunner().invoke(cli.app, [*fit, "-F", stream, "--out", f"runs of {stream}"])
        assert same_split.exit_code == 0, same_split.output
        further = [*ARGUMENTS, *SMALL, *option, "--seed", "1", "--out", "further"]
        training = CliRunner().invoke(cli.app, further)
        assert training.exit_code == 2 and "were finetuned on" in " ".join(training.output.split())


def test_weights_that_are_trained_twice_state_the_images_of_both_trainings(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    plain = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(1)}, plain)
    preset = image_preset("resnet18")
    encoder = ImageEncoder(preset, file_weights(plain, "here"), preset.preprocessing("native", None))
    written = write_image(encoder, {"a": torch.ones(1)}, first, ["bb", "aa"])
    assert encoder.weights.seen_images() == ()
    trained = replace(encoder, weights=file_weights(first / written, "here"))
    again = write_image(trained, {"a": torch.ones(1)}, second, ["cc", "aa"])
    assert file_weights(second / again, "here").seen_images() == ("aa", "bb", "cc")
    (copy := tmp_path / "copy").mkdir()
    kept = write_image(trained, {}, copy, ["dd"])  # not trained again: a copy of the same weights
    assert file_weights(copy / kept, "here") == replace(trained.weights, path=copy / kept)
    assert file_weights(copy / kept, "here").seen_images() == ("aa", "bb")


@pytest.mark.parametrize(
    "part",
    [
        pytest.param("image", marks=pytest.mark.slow),
        pytest.param("text", marks=pytest.mark.slow),
        "last:1",
    ],
)
def test_only_the_named_part_is_trained(project: Path, part: str) -> None:
    folder = run("--finetune", part, "--epochs", "1")
    image = load_network(find_image_encoder(ImageChoice("resnet18"), folders=[project])).state_dict()
    trained = finetuned_encoders(folder)
    changed = {
        name
        for name, tensor in load_network(trained.image).state_dict().items()
        if not torch.equal(tensor, image[name])
    }
    if part == "text":
        assert not changed
        assert "@" not in trained.image.preset.name
        assert "@" in trained.text.preset.name
    else:
        assert ("@" in trained.text.preset.name) == (part != "image")
        stages = {name.split(".")[1] for name in changed}
        assert stages == (
            {"layer4"} if part == "last:1" else {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
        )
        assert not any("running" in name for name in changed)  # frozen statistics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--finetune", "lost:1"], "use none, image, text, all, last:N"),
        (["--head", "ridge"], "use --head mlp"),
        (["--set", "sunshine=1"], "has no option sunshine"),
        (["--set", "layer_decay=2"], "layer_decay is 2"),
        (["--set", "precision=fp64"], "one of fp32, bf16, fp16, tf32"),
        (
            ["--set", "precision=tf32"],
            "the device 'cpu' cannot compute in tf32",
        ),
        (["--precision", "bf16", "--set", "precision=fp16"], "precision is set twice"),
        (["--epochs", "0"], "greater than or equal to 1"),
        (["--set", "training_mode=true", "--set", "micro_batch=2"], "micro_batch would divide the batches"),
        (["--recipe", "published", "--set", "recompute=true"], "pass --set training_mode=false"),
    ],
)
def test_options_that_do_not_fit_end_to_end_training_are_refused(
    project: Path, arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(cli.app, [*ARGUMENTS, *SMALL, *arguments])
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_a_test_image_that_the_encoders_have_seen_is_refused_unless_the_split_itself_leaks_it(
    tmp_path: Path,
) -> None:
    signature = Signature("image", "net@run-MOS_q-0", "net", "f" * 64, "none", "pooled")
    store = FeatureStore.create(tmp_path, signature, {})
    publish_text(tmp_path / SEEN_FOLDER / f"{signature.weights}.json", '["a", "b", "c"]')
    manifest = Manifest(
        "data", (tmp_path,), pd.DataFrame({"image_key": ["a", "b", "c", "a", "d"]}), ("MOS_q",)
    )
    train, validation = np.array([0, 1]), np.array([2])
    require_unseen(manifest, [Split(train, validation, np.array([3, 4]), 0)], store)
    with pytest.raises(FinetunedError, match=r"finetuned on 1 of the 2 test images of the split with seed 7"):
        require_unseen(manifest, [Split(train, np.array([4]), np.array([2, 3]), 7)], store)


def test_a_run_without_finetuning_has_no_encoders(tmp_path: Path) -> None:
    with pytest.raises(FinetunedError, match="contains no finetuned encoders"):
        finetuned_encoders(tmp_path)


@pytest.mark.slow
def test_a_row_without_a_score_takes_no_part_in_the_training_for_its_target(tmp_path: Path) -> None:
    """The run equals one on all scores whose splits file does not name these rows."""
    write_dataset(tmp_path / "data")
    whole = check(tmp_path / "data").manifest
    table = whole.table.copy()
    table.loc[[1, 4], "MOS_c"] = np.nan
    names = table["name"].tolist()
    parts = {"train": range(6), "validation": (6, 7, 8), "test": (9, 10, 11)}
    table.loc[[8, 10], "MOS_c"] = np.nan
    image, text = small_encoders(tmp_path)

    def trained(data: Manifest, left_out: set[int], out: str) -> Path:
        named = {part: [names[row] for row in rows if row not in left_out] for part, rows in parts.items()}
        options = FitOptions(
            finetune="all",
            targets=("MOS_c",),
            split=StoredSplits(Path("splits.json"), [StoredSplit(0, **named)]),
            head={"hidden": 8},
            training={"batch_size": 4, "max_epochs": 2},
            models="all",
        )
        return finetune(data, EncoderPair(image, text), options, tmp_path / out, device="cpu").folder

    found = trained(replace(whole, table=table), set(), "missing")
    expected = trained(whole, {1, 4, 8, 10}, "named")
    pd.testing.assert_frame_equal(read_predictions(found), read_predictions(expected), check_exact=True)
    pd.testing.assert_frame_equal(read_curves(found), read_curves(expected), check_exact=True)
    assert read_predictions(found)["name"].tolist() == [names[9], names[11]]
    seen = finetuned_encoders(found, "MOS_c", 0).image.weights.seen_images()
    assert set(seen) == set(table["image_key"].iloc[[0, 2, 3, 5, 6, 7]])


def test_sharded_weights_that_are_not_trained_are_kept_as_one_file(tmp_path: Path) -> None:
    state = {"a": torch.rand(3), "b": torch.rand(2)}
    for name, tensor in state.items():
        save_file({name: tensor}, tmp_path / f"{name}.safetensors")
    weight_map = {name: f"{name}.safetensors" for name in state}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    preset = image_preset("resnet18")
    encoder = ImageEncoder(preset, file_weights(index, "here"), preset.reference)
    (kept := tmp_path / "kept").mkdir()
    torch.testing.assert_close(load_file(kept / write_image(encoder, {}, kept)), state)


def test_training_passes_on_notes_about_weights(tmp_path: Path) -> None:
    image, text = small_encoders(tmp_path)
    state = torch.load(image.weights.path, weights_only=True)
    raw = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"model": raw, "model_ema": state}, tmp_path / "both.pth")
    image = replace(image, weights=file_weights(tmp_path / "both.pth", "here"))
    notes: list[str] = []
    write_dataset(tmp_path / "data")
    data = check(tmp_path / "data")
    TrainingInputs(
        data, EncoderPair(image, text), "nr", (), Accelerator(cpu=True), lambda *_: None, notes.append
    ).image_network()
    assert len(notes) == 1 and "'model_ema'" in notes[0]
