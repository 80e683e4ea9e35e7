"""`tier extract` takes several encoders of a kind, both towers of a checkpoint, and some of the streams."""

import shutil
from pathlib import Path

import pytest

from tier4k.cache.listing import stores
from tier4k.heads.results.read import read_predictions
from tier4k.tests.builders.commands import ENCODERS, on_one_line, succeed, tier
from tier4k.tests.builders.data import table_rows, write_table
from tier4k.tests.builders.transformers_models import write_vision_folder


def rows_of_stores() -> dict[str, int]:
    """Rows of each store, by stream and encoder."""
    found = {}
    for store in stores(Path("fresh")):
        found[f"{store.signature.stream} {store.signature.encoder}"] = len(store.keys)
    return found


def test_several_text_encoders_fill_a_store_each(project: Path) -> None:
    shutil.copytree("bert-base-uncased", "other")
    (project / "other" / "config.json").write_text(
        (project / "other" / "config.json").read_text().replace('"gelu"', '"relu"')
    )
    names = ["--text-encoder", "bert-base-uncased", "--text-encoder", "hf:other"]
    output = succeed("extract", "Dataset", "-F", "fresh", "--streams", "text", *names, *names)
    assert rows_of_stores() == {"text bert-base-uncased": 4, "text hf:other": 4}
    assert output.count("encoded 4 of 4 distinct inputs") == 2


def test_without_text_no_text_encoder_is_searched(project: Path, no_hub: None) -> None:
    shutil.rmtree("bert-base-uncased")
    code, output = tier("extract", "Dataset", *ENCODERS)
    assert code == 2 and "there are no weights for the text encoder bert-base-uncased" in output
    output = succeed("extract", "Dataset", "--image-encoder", "resnet18", "--streams", "image+image-prompt")
    assert "all 14 distinct inputs are in" in output and "text encoder" not in output
    output = succeed("extract", "Dataset", "--image-encoder", "resnet18", "--streams", "image")
    assert "all 12 distinct inputs are in" in output


def test_without_images_no_image_encoder_is_searched(project: Path) -> None:
    shutil.rmtree("pretrained")
    output = succeed("extract", "Dataset", "--text-encoder", "bert-base-uncased", "--streams", "text")
    assert "text bert-base-uncased: all 4 distinct inputs are in" in output and "image encoder" not in output


def test_images_without_prompts_are_encoded_fitted_and_scored(project: Path) -> None:
    names = [f"{generator}_{number}.png" for number in range(6) for generator in ("MJ", "SD")]
    table = table_rows(names).drop(columns="prompt")
    write_table(project / "unprompted" / "t.csv", table)
    extract = ["extract", "unprompted/t.csv", "--image-encoder", "resnet18", "-F", "fresh"]
    code, output = tier(*extract, "--streams", "image+text")
    assert code == 2 and "has no text prompts" in output
    images = ["--image-encoder", "resnet18", "--streams", "image", "-F", "fresh"]
    succeed("extract", "unprompted/t.csv", *images, "--workers", "0")
    succeed("fit-head", "unprompted/t.csv", *images, "--head", "ridge", "--repeats", "2", "--out", "alone")
    (run,) = Path("alone").iterdir()
    # Without prompts, only equal images belong together.
    assert (read_predictions(run).groupby("group")["name"].nunique() == 1).all()
    table = succeed("predict", str(run), "unprompted/MJ_0.png", "-F", "fresh", "--workers", "0")
    assert "mos" in table


WEIGHTS = ["--text-weights", "bert-base-uncased"]
WRONG = {
    "no stream": (
        ["--streams", "picture"],
        "use all, or some of text, image, image-prompt with + between them",
    ),
    "an image encoder without images": (
        ["--streams", "text", "--image-encoder", "resnet18"],
        "--image-encoder has no effect: add image to --streams",
    ),
    "a text encoder without texts": (
        ["--streams", "image", "--text-encoder", "minilm"],
        "--text-encoder has no effect: add text to --streams",
    ),
    "templates without a checkpoint": (
        ["--templates", "t.toml"],
        "--templates has no effect: pass a checkpoint with two towers",
    ),
    "templates without texts": (
        ["--templates", "t.toml", "--encoder", "hf:vit", "--streams", "image"],
        "--templates has no effect: add text to --streams",
    ),
    "a file of templates that is not there": (
        ["--templates", "t.toml", "--encoder", "hf:vit"],
        "t.toml cannot be read as templates",
    ),
    "a known encoder as checkpoint": (
        ["--encoder", "clip"],
        "'clip' is no checkpoint with two towers",
    ),
    "a checkpoint of images alone": (
        ["--encoder", "hf:vit"],
        "hf:vit (model_type 'vit') has no text tower: pass it as",
    ),
    "weights of a checkpoint": (
        ["--encoder", "hf:vit", *WEIGHTS],
        "the weights of --encoder are in its own folder",
    ),
    "weights for two text encoders": (
        ["--text-encoder", "minilm", "--text-encoder", "bert-base-uncased", *WEIGHTS],
        "one file of weights cannot serve several text encoders: run `tier extract` once",
    ),
    "an encoder beside those of a run": (
        ["--finetuned", "runs/x", "--text-encoder", "minilm"],
        "the encoders come from the run: leave out",
    ),
}


@pytest.fixture(scope="module")
def wrong_project(golden_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a vision transformer, which no wrong option changes."""
    folder = tmp_path_factory.mktemp("wrong")
    for name in ("Dataset", "pretrained", "bert-base-uncased"):
        (folder / name).symlink_to(golden_project / name)
    write_vision_folder(folder / "vit", "vit")
    return folder


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_choice_is_refused_with_its_remedy(
    wrong_project: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(wrong_project)
    options, expected = WRONG[case]
    code, output = tier("extract", "Dataset", "-F", "fresh", *options)
    assert code == 2, output
    assert expected in on_one_line(output)
    assert not Path("fresh").exists()


def test_the_check_of_data_needs_the_tokenizer_of_a_folder_and_not_of_a_preset(
    project: Path, no_hub: None
) -> None:
    shutil.rmtree("bert-base-uncased")
    output = succeed("data", "check", "Dataset", "--text-encoder", "bert-base-uncased")
    assert "not counted: the text encoder's tokenizer was not found" in output
    code, output = tier("data", "check", "Dataset", "--text-encoder", "hf:nowhere")
    assert code == 2 and "hf:nowhere" in output and "rows" not in output
