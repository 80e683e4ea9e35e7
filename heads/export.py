"""A model that travels: heads, encoders, calibration and a card in one folder, which loads offline and on the Hugging Face hub.

DIR/
    config.json, model.safetensors   the heads: what stands in model.json and model.safetensors of a run
    encoders/image.safetensors       the image encoder, in timm's naming
    encoders/text/                   the text encoder with its tokenizer, as Hugging Face lays it out
    encoders/seen.json               keys of the pictures that they were finetuned on, where they were
    encoders/TARGET/REPEAT/          instead of these, encoders that were finetuned with each head
    README.md                        the model card
    onnx/                            where asked for: image.onnx, text.onnx, head.onnx (see `heads.onnx`)
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cache.atomic import publish
from cache.errors import TierError
from cache.store import writing
from extract.signed import image_encoder_of, text_encoder_of
from extract.weights import TEXT_WEIGHT_FILES
from heads.finetuned import ENCODERS, encoders_folder, write_image, write_text
from heads.model import EXPORTED_FILE, Model
from heads.results import Results, read_config
from heads.sources import SEEN_FILE, TEXT_FOLDER, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

CARD = "README.md"
HEADER = ("---", "library_name: tier4k", "tags:", "- image-quality-assessment", "- model_hub_mixin", "---")


class ExportError(TierError):
    """A model that cannot be exported there."""


def export(sources: Sequence[Source], folder: Path, onnx: bool = False) -> dict[str, float]:
    """Write a model into a new folder, which is there whole or not at all.

    Args:
        sources: Heads with their encoders.
        folder: The new folder.
        onnx: Write ONNX files too.

    Returns:
        How far each ONNX file is from its original (see `export_onnx`).

    Raises:
        ExportError: The folder is there already.
        TierError: Weights are missing, or the disk refuses.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} is there already: give a new folder, or remove it first")
    if onnx and len(sources) > 1:
        raise ExportError(f"{len(sources)} heads have encoders of their own: choose one with --target and --repeat for --onnx")
    differences: dict[str, float] = {}

    def fill(path: Path) -> None:
        export_into(sources, path)
        if onnx:
            from heads.onnx import export_onnx

            differences.update(export_onnx(sources[0], path / "onnx"))

    with writing(folder):
        publish(folder, fill)
    return differences


def export_into(sources: Sequence[Source], folder: Path) -> None:
    """Write a model into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = _whole(sources)
    if len(sources) == 1 and not _was_finetuned(model):
        model = _with_encoders(sources[0], folder)
    else:
        for target, repeat in model.heads:
            place = encoders_folder(Path(), target, repeat)
            shutil.copytree(model.folder / place, folder / place)
    replace(model, folder=folder).write(EXPORTED_FILE)
    (folder / CARD).write_text(_card(model), encoding="utf-8")


def _whole(sources: Sequence[Source]) -> Model:
    model = sources[0].model
    heads = {place: head for source in sources for place, head in source.model.heads.items()}
    return replace(model, heads=heads)


def _was_finetuned(model: Model) -> bool:
    return all(encoders_folder(model.folder, target, repeat).is_dir() for target, repeat in model.heads)


def _with_encoders(source: Source, folder: Path) -> Model:
    """Write the two encoders; the model with the signatures of these very files."""
    inside = folder / ENCODERS
    inside.mkdir()
    image = write_image(source.image, _contiguous(source.image.load().backbone), inside)
    has_safetensors = (source.text.weights.path / TEXT_WEIGHT_FILES[0]).is_file()
    # The pooler's output is not read, and where a file lacks it, it is random.
    tensors = {} if has_safetensors else _contiguous(source.text.load().backbone)
    write_text(source.text, {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}, inside / TEXT_FOLDER)
    if source.seen:
        (inside / SEEN_FILE).write_text(json.dumps(source.seen), encoding="utf-8")
    signatures = source.model.signatures
    found = {
        "image": image_encoder_of(signatures["image"], inside / image, anew=True).signature,
        "text": text_encoder_of(signatures["text"], inside / TEXT_FOLDER, anew=True).signature,
    }
    return replace(source.model, signatures=found)


def _contiguous(network: "nn.Module") -> "dict[str, Tensor]":
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def _card(model: Model) -> str:
    if not (model.folder / "results.json").is_file():
        return (model.folder / CARD).read_text(encoding="utf-8")  # an exported model that is exported again
    results, config = Results.read(model.folder), read_config(model.folder)
    parts = (HEADER, _about(model, results, config["data_digest"]), _figures(results), _use(model), _limits(results))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _about(model: Model, results: Results, digest: str) -> list[str]:
    image, text = (model.signatures[stream] for stream in ("image", "text"))
    return [
        f"# TIER-{results.method.upper()} fitted on {results.data}",
        "",
        f"Scores AI-generated pictures for {', '.join(model.targets)} by their text prompt"
        + {"nr": ".", "fr": " and their image prompt.", "pr": ", and by their image prompt where there is one."}[model.method],
        "",
        f"- Data: {results.data}, {results.benchmark}, {results.rows:,} rows (digest {digest[:12]})",
        f"- Image encoder: {image.encoder}, {image.feature_name}, prepared: {image.preparation}",
        f"- Text encoder: {text.encoder}, {text.feature_name}, {text.preparation}",
        f"- Head: {model.estimator}, {len(model.heads)} fitted (targets x repeats); a score is the mean over the repeats",
        f"- Run: {results.id}",
    ]


def _figures(results: Results) -> Iterator[str]:
    seen = f"{sum(results.seen_prompts)} of {sum(results.test_prompts)} test prompts were seen in training"
    yield f"## Figures, split `{results.split}`, {len(results.test_rows)} repeats"
    yield ""
    yield f"Of single heads on their test rows, mean ± standard deviation over the repeats; {seen}."
    yield ""
    yield "| target | SRCC | PLCC | RMSE | floor: SRCC of the generator's mean | 90 % interval | test rows in it |"
    yield "|---|---|---|---|---|---|---|"
    for target, summaries in results.summaries.items():
        its, interval = summaries[results.headline], results.intervals.get(target)
        cells = [f"{its[name].mean:.3f} ± {its[name].sd:.3f}" for name in ("srcc", "plcc", "rmse")]
        width = f"± {sum(interval.half_width) / len(interval.half_width):.3g}" if interval else "none"
        covered = f"{sum(interval.coverage) / len(interval.coverage):.1%}" if interval else ""
        yield f"| {target} | {' | '.join(cells)} | {summaries['generator_mean']['srcc'].mean:.3f} | {width} | {covered} |"


def _use(model: Model) -> list[str]:
    guide = ', image_prompt="guide.png"' if model.method == "fr" else ""
    return [
        "## Use",
        "",
        "```python",
        "from heads import load  # pip install tier4k",
        "",
        f'metric = load("this folder", target="{model.targets[0]}")',
        f'metric.score("picture.png", "its text prompt"{guide})',
        "```",
    ]


def _limits(results: Results) -> list[str]:
    leaks = "The split shows pictures of test prompts in training: the figures are too good for new prompts. "
    return [
        "## Limits",
        "",
        f"{leaks if any(results.seen_prompts) else ''}The figures hold for prompts and generators like those of {results.data};",
        "on a generator that training has not seen they are lower. The scores are on that data set's scale. The interval is promised",
        "for a single picture of a new prompt of the same kind, and for nothing else. The heads learnt what people said of pictures,",
        "not what is in them.",
    ]
