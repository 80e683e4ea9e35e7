"""What a reader knows the runs of a report by: what was fitted on what, and what sets a run apart from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

# What two runs may differ in, and how a reader calls it. The order is that of the page.
FACTORS = {
    "method": "method",
    "encoder": "image encoder",
    "text": "text encoder",
    "feature": "feature",
    "stages": "stages",
    "preparation": "picture preparation",
    "views": "views",
    "precision": "precision",
    "scores": "zero-shot scores that the head sees",
    "head": "head",
    "start": "head that this one goes on from",
    "training": "training of the encoders",
    "other": "run",
}

USUAL = {
    "stages": "all stages",
    "views": "centre view",
    "precision": "fp32",
    "start": "no other head",
    "scores": "no scores",
    "training": "frozen encoders",
}

ORDER = ("benchmark", *FACTORS, "split")


@dataclass(frozen=True)
class RunName:
    """What a reader knows a run by.

    Attributes:
        data: Name of the data set, with the beginning of its digest where two data sets share a name.
        benchmark: Rows that took part.
        split: The split rule with the number of repeats, and seeds and the first seed where they are not the usual ones.
        method, encoder, text, feature, stages, preparation, views, precision, scores, head, start, training: What was fitted, in words; see
            `FACTORS`. "" where a run has no such thing, `USUAL` where it is what most have.
        other: Identity of the run, where nothing above tells it from another one; else "".
    """

    data: str
    benchmark: str
    split: str
    method: str
    encoder: str
    text: str = ""
    feature: str = ""
    stages: str = USUAL["stages"]
    preprocessing: str = ""
    crops: str = USUAL["views"]
    precision: str = USUAL["precision"]
    scores: str = USUAL["scores"]
    head: str = "none"
    start: str = USUAL["start"]
    training: str = USUAL["training"]
    other: str = ""

    @property
    def context(self) -> tuple[str, str, str]:
        """Runs are comparable where this is equal: the same rows, split in the same way."""
        return self.data, self.benchmark, self.split

    @property
    def features(self) -> str:
        """Everything of the picture's features but the encoder."""
        return self._unusual("feature", "stages", "preparation", "views", "precision", "scores")

    @property
    def fitted(self) -> str:
        """The head, and whether the encoders were trained with it."""
        return self._unusual("head", "start", "training", "other")

    def _unusual(self, *parts: str) -> str:
        said = {part: getattr(self, part) for part in parts}
        return ", ".join(value for part, value in said.items() if value and value != USUAL.get(part))


def run_names(configs: Sequence[Mapping[str, Any]], identities: Sequence[str]) -> list[RunName]:
    """Names of runs, no two of them equal.

    Args:
        configs: Their config.json.
        identities: What tells runs apart that are alike in all that a name holds.
    """
    digests: dict[tuple[str, str], set[str]] = {}
    for config in configs:
        digests.setdefault((config["data"], config["benchmark"]), set()).add(config["data_digest"])
    heads, trainings = (_varying(configs, part) for part in ("head", "finetune"))
    names = [
        RunName(
            data=config["data"]
            + (
                f" ({config['data_digest'][:6]})"
                if len(digests[config["data"], config["benchmark"]]) > 1
                else ""
            ),
            benchmark=config["benchmark"],
            split=_split(config),
            method=config["method"].upper(),
            **_inputs(config, heads[_kind(config)], trainings[_kind(config)]),
        )
        for config in configs
    ]
    return [
        replace(name, other=f"run {identity}") if names.count(name) > 1 else name
        for name, identity in zip(names, identities, strict=True)
    ]


def labels(names: Sequence[RunName]) -> list[str]:
    """What sets each run apart from the others on its data set: the method, what was trained, and what is unusual where any two differ."""
    shown = {
        data: differing([name for name in names if name.data == data], ORDER)
        for data in {name.data for name in names}
    }
    return [
        told(name, [part for part in ORDER if part in ("method", "head", "training", *shown[name.data])])
        for name in names
    ]


def told(name: RunName, parts: Sequence[str]) -> str:
    """Parts of a run's name in words, without what is usual."""
    return " · ".join(value for part in parts if (value := getattr(name, part)) not in ("", USUAL.get(part)))


def differing(names: Sequence[RunName], parts: Sequence[str]) -> list[str]:
    """Those of the parts in which any two names differ."""
    return [part for part in parts if len({getattr(name, part) for name in names}) > 1]


def _split(config: Mapping[str, Any]) -> str:
    seeds = config["seeds"]
    several = f" × {seeds} seeds" if seeds > 1 else ""
    return f"{config['split']} × {config['repeats']}{several}" + (
        f", seed {config['seed']}" if config["seed"] else ""
    )


def _inputs(config: Mapping[str, Any], head: Sequence[str], training: Sequence[str]) -> dict[str, str]:
    """What a run reads and what makes a score of it; a zero-shot scorer reads pictures and texts with one network, and has no head."""
    signatures = config["signatures"]
    if "score" in signatures:
        return {"encoder": signatures["score"]["encoder"]}
    image, crops = signatures["image"], str(signatures["image"].get("views", "centre"))
    scores = [name for name in signatures if name not in ("image", "text")]
    recipe = ", published recipe" if config["recipe"] == "published" else ""
    tuned = config["finetune"]
    return {
        "encoder": image["encoder"],
        "text": signatures["text"]["encoder"],
        "feature": _before_colon(image.get("feature", "")),
        "stages": " ".join(config["stages"]) or USUAL["stages"],
        "preparation": _before_colon(image.get("preparation", "")),
        "views": USUAL["views"] if crops == "centre" else crops.split(",", 1)[0],
        "precision": str(image.get("precision", USUAL["precision"])),
        "scores": f"scores of {' and '.join(scores)}" if scores else USUAL["scores"],
        "head": config["estimator"] + recipe + _options(config["head"], head),
        "start": f"from {config['start']}" if config["start"] else USUAL["start"],
        "training": f"finetuned {tuned['part']}{_options(tuned, training)}" if tuned else USUAL["training"],
    }


def _before_colon(described: object) -> str:
    """The name in front of a description."""
    return str(described).split(":", 1)[0]


def _kind(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Runs whose options are worth comparing: other data, a recipe and training end to end say in a word why these differ."""
    return config["data"], config["estimator"], config["recipe"], config["finetune"].get("part", "")


def _varying(configs: Sequence[Mapping[str, Any]], part: str) -> dict[tuple[str, ...], list[str]]:
    """Options, of the head or of finetuning, in which runs of one kind differ, by kind."""
    out = {}
    for kind in {_kind(config) for config in configs}:
        options = [config.get(part) or {} for config in configs if _kind(config) == kind]
        names = dict.fromkeys(name for one in options for name in one)
        out[kind] = [name for name in names if any(one.get(name) != options[0].get(name) for one in options)]
    return out


def _options(values: Mapping[str, Any], shown: Sequence[str]) -> str:
    said = [f"{name} {_short(values.get(name))}" for name in shown]
    return f" ({', '.join(said)})" if said else ""


def _short(value: object) -> str:
    return f"{len(value)} values" if isinstance(value, list) and len(value) > 3 else str(value)
