"""Write the model card of an exported model, in Markdown."""

from collections.abc import Iterator

from tier4k.cache.text import read_text
from tier4k.extract.encoders.presets import weights_note
from tier4k.heads.data.encoder_names import score_signatures, stream_signatures
from tier4k.heads.data.interactions import NO_INTERACTION
from tier4k.heads.evaluation.summary import Summary
from tier4k.heads.metrics.conformal import Interval
from tier4k.heads.results.layout import CARD, damaged, is_run
from tier4k.heads.results.model import Model
from tier4k.heads.results.read import read_config
from tier4k.heads.results.results import Results

HEADER = (
    "---",
    "library_name: tier4k",
    "tags:",
    "- image-quality-assessment",
    "- model_hub_mixin",
    "---",
)

SHOWN_METRICS = ("srcc", "plcc", "rmse")


def model_card(model: Model) -> str:
    """Return the model card of a run; for an exported model, return its existing card.

    Raises:
        ResultError: The files of the run cannot be read.
    """
    if not is_run(model.folder):
        path = model.folder / CARD
        try:
            return read_text(path)
        except (OSError, ValueError) as error:
            raise damaged(path, error) from error
    results = Results.read(model.folder)
    sections = (
        HEADER,
        _description(model, results),
        _metrics(results),
        _usage(model),
        _limits(model, results),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _description(model: Model, results: Results) -> list[str]:
    digest = read_config(model.folder).data_digest
    return [
        f"# TIER-{results.method.upper()} fitted on {results.data}",
        "",
        f"Scores AI-generated images for {', '.join(model.targets)}.",
        "",
        f"- Inputs: {', '.join(_inputs(model))}",
        f"- Data: {results.data}, {results.benchmark}, {results.rows:,} rows (digest {digest[:12]})",
        *_encoders(model),
        *_interaction(model),
        f"- Head: {model.estimator}, {len(model.heads)} fitted (targets x repeats); "
        "a score is the mean over the repeats",
        f"- Run: {results.id}",
    ]


def _inputs(model: Model) -> Iterator[str]:
    """Yield what the heads read of an image."""
    if "image" in model.inputs:
        yield "the image"
    if model.reads_prompts:
        yield "its text prompt"
    if model.requires_image_prompts:
        yield "its image prompt"
    elif model.reads_image_prompts:
        yield "its image prompt if it has one"


def _encoders(model: Model) -> Iterator[str]:
    """Yield a line for each encoder, in the order of the columns that it has in fused vectors."""
    for text in stream_signatures(model.signatures, "text").values():
        yield f"- Text encoder: {text.encoder}, {text.feature_name}, {text.preparation}"
    for image in stream_signatures(model.signatures, "image").values():
        rounding = weights_note(image.weights)
        note = f", {rounding}" if rounding else ""
        feature = f"{image.feature_name}, preprocessing: {image.preparation}{note}"
        yield f"- Image encoder: {image.encoder}, {feature}"
    for score in score_signatures(model.signatures).values():
        yield f"- Scores as features: {score.encoder}, {score.architecture}"


def _interaction(model: Model) -> Iterator[str]:
    """Yield a line for the interaction, if the heads have one."""
    if model.interaction != NO_INTERACTION:
        templates = f", {len(model.templates)} templates" if model.templates else ""
        yield f"- Interaction: {model.interaction}{templates}"


def _metrics(results: Results) -> Iterator[str]:
    prompts = sum(results.seen_prompts or ())
    seen = f"{prompts} of {sum(results.test_prompts)} test prompts were seen in training"
    yield f"## Metrics, split `{results.split}`, {len(results.test_rows)} repeats"
    yield ""
    yield f"Single heads on their test rows, mean ± standard deviation over the repeats; {seen}."
    yield ""
    columns = (
        "target",
        "SRCC",
        "PLCC",
        "RMSE",
        "baseline: SRCC of the generator's mean",
        "90 % prediction interval",
        "test coverage",
    )
    yield _row(columns)
    yield "|" + "---|" * len(columns)
    for target in results.summaries:
        yield _row(_cells(results, target))


def _cells(results: Results, target: str) -> list[str]:
    summaries = results.summaries[target]
    headline_metrics = summaries[results.headline]
    baseline = summaries["generator_mean"]["srcc"]
    return [
        target,
        *(_mean_and_sd(headline_metrics[metric]) for metric in SHOWN_METRICS),
        f"{baseline.mean:.3f}",
        *_width_and_coverage(results.prediction_intervals.get(target)),
    ]


def _mean_and_sd(summary: Summary) -> str:
    return f"{summary.mean:.3f} ± {summary.sd:.3f}"


def _width_and_coverage(interval: Interval | None) -> tuple[str, str]:
    """Return the cells for the mean half-width and the mean test coverage of an interval."""
    if interval is None:
        return "none", ""
    width = sum(interval.half_width) / len(interval.half_width)
    coverage = sum(interval.coverage) / len(interval.coverage)
    return f"± {width:.3g}", f"{coverage:.1%}"


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return f"| {' | '.join(cells)} |"


def _usage(model: Model) -> list[str]:
    prompt = ', "its text prompt"' if model.reads_prompts else ""
    image_prompt = ', image_prompt="image_prompt.png"' if model.requires_image_prompts else ""
    return [
        "## Use",
        "",
        "```python",
        "import tier4k  # pip install tier4k",
        "",
        f'metric = tier4k.load("this folder", target="{model.targets[0]}"{_trusted(model)})',
        f'metric.score("image.png"{prompt}{image_prompt})',
        "```",
    ]


def _trusted(model: Model) -> str:
    """Return the argument with the types of other packages that a user must trust; "" without any."""
    return f", trusted={list(model.trust)!r}" if model.trust else ""


def _limits(model: Model, results: Results) -> list[str]:
    lines = ["## Limits", ""]
    if any(results.seen_prompts or ()):
        lines.append(
            "The split has images of test prompts in training: for new prompts the metrics are too good."
        )
    lines += [
        f"The metrics hold for prompts and generators like those of {results.data};",
        "on generators that are not in the training data they are lower.",
        f"Scores are on the scale of {' and '.join(sorted(set(model.scales.values()))) or 'that data set'}.",
        "The prediction interval holds only for a single image of a new prompt of the same kind.",
        "The heads learnt human ratings of images, not the content of images.",
    ]
    return lines
