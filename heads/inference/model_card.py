"""The model card of an exported model."""

from collections.abc import Iterator

from tier4k.heads.results.files import read_config
from tier4k.heads.results.model import Model
from tier4k.heads.results.results import Results

CARD = "README.md"

HEADER = ("---", "library_name: tier4k", "tags:", "- image-quality-assessment", "- model_hub_mixin", "---")


def _card(model: Model) -> str:
    if not (model.folder / "results.json").is_file():
        return (model.folder / CARD).read_text(encoding="utf-8")  # an exported model that is exported again
    results, config = Results.read(model.folder), read_config(model.folder)
    parts = (
        HEADER,
        _about(model, results, config["data_digest"]),
        _figures(results),
        _use(model),
        _limits(results),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _about(model: Model, results: Results, digest: str) -> list[str]:
    image, text = (model.signatures[stream] for stream in ("image", "text"))
    return [
        f"# TIER-{results.method.upper()} fitted on {results.data}",
        "",
        f"Scores AI-generated pictures for {', '.join(model.targets)} by their text prompt"
        + {
            "nr": ".",
            "fr": " and their image prompt.",
            "pr": ", and by their image prompt where there is one.",
        }[model.method],
        "",
        f"- Data: {results.data}, {results.benchmark}, {results.rows:,} rows (digest {digest[:12]})",
        f"- Image encoder: {image.encoder}, {image.feature_name}, prepared: {image.preprocessing}",
        f"- Text encoder: {text.encoder}, {text.feature_name}, {text.preprocessing}",
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
        "from tier4k import load  # pip install tier4k",
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
