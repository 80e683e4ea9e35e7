"""Ideas for better heads, on validation prompts: the gain of each over a preset.

    tier weights get clip-vit-b16
    tier extract AGIQA-3K --features DIR --preset clip
    tier extract AGIQA-3K --features DIR --image-encoder clip@448 --feature multilevel
    python benchmarks/accuracy_ideas.py AGIQA-3K --features DIR [--preset clip] [--ideas NAME ...]

For seeds 100 to 109, which no table of test values uses, the prompts are split into 80 % for training and
20 % for validation. An idea is a set of image encoders, with MiniLM for the text, and options of kernel
ridge; all that it learns is learnt on the training rows. The first idea of each list is the base of gains.
It is the preset as it was when the ideas were compared, written out, so that the table stays when the preset
changes.

A gain is the mean difference to the base on the same splits, with the 95 % interval of the corrected
resampled t (Nadeau & Bengio, Machine Learning 52, 2003). An idea whose features are not in DIR is left out,
and named.
The last line is one JSON object: by idea and score, SRCC and PLCC of every split.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import pearsonr, spearmanr
from scipy.stats import t as student

# Not this folder, whose files hide packages of the same names: `coverage`, which Numba imports, and `heads`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)
from tier4k.cache.errors import StoreError
from tier4k.cache.stored_keys import StoredKeys
from tier4k.extract.datasets.check import check
from tier4k.extract.encoders.image_choice import ImageChoice
from tier4k.extract.pipeline.process_policy import process_policy
from tier4k.extract.stores.find import find_stores
from tier4k.heads.data.splits import make_splits
from tier4k.heads.data.stores import FeatureStores
from tier4k.heads.protocol.fused import FusedFeatures, fused_features
from tier4k.heads.protocol.options import FitOptions
from tier4k.heads.regressors.registry import fit_heads, make_head
from tier4k.heads.regressors.tasks import FitTask

HEAD = "kernel-ridge"
FIRST_SEED = 100
LEVEL = 0.95

LITE = ImageChoice(image_size=512, feature="multilevel")
CLIP = ImageChoice("clip", feature="multilevel")
CLIP_448 = ImageChoice("clip", image_size=448, feature="multilevel")
DINO = ImageChoice("timm:vit_small_patch14_dinov2", image_size=224, feature="multilevel")

KERNELS = {"kernels": "encoders", "leave_out": "group"}
MAP = {**KERNELS, "interaction": "map"}
ROOT = {"image_transform": "sqrt"}
RANKS = {"target_transform": "rank-gauss"}


@dataclass(frozen=True)
class Idea:
    """Image encoders, options of kernel ridge and levels of the features (all, if empty)."""

    images: tuple[ImageChoice, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[str, ...] = ()


IDEAS: dict[str, dict[str, Idea]] = {
    "clip": {
        "CLIP, Lite0, map, sqrt, rank-gauss": Idea((CLIP, LITE), MAP | ROOT | RANKS),
        "no target transform": Idea((CLIP, LITE), MAP | ROOT),
        "CLIP at 448 besides": Idea((CLIP, CLIP_448, LITE), MAP | ROOT | RANKS),
        "CLIP at 448 in the place of Lite0": Idea((CLIP, CLIP_448), MAP | ROOT | RANKS),
        "DINOv2-S besides": Idea((CLIP, LITE, DINO), MAP | ROOT | RANKS),
        "DINOv2-S in the place of Lite0": Idea((CLIP, DINO), MAP | ROOT | RANKS),
        "CLIP at 448 and DINOv2-S besides": Idea((CLIP, CLIP_448, LITE, DINO), MAP | ROOT | RANKS),
        "blocks 9 and 12 of CLIP": Idea((CLIP, LITE), MAP | ROOT | RANKS, ("clip=9,12",)),
        "blocks 6, 9 and 12 of CLIP": Idea((CLIP, LITE), MAP | ROOT | RANKS, ("clip=6,9,12",)),
    },
    "best": {
        "joint kernel": Idea((LITE,)),
        "leave_out=group": Idea((LITE,), {"leave_out": "group"}),
        "sqrt": Idea((LITE,), ROOT),
        "rank-gauss": Idea((LITE,), RANKS),
        "sqrt, rank-gauss": Idea((LITE,), ROOT | RANKS),
        "kernels": Idea((LITE,), KERNELS),
        "kernels, sqrt, rank-gauss": Idea((LITE,), KERNELS | ROOT | RANKS),
        "map": Idea((LITE,), MAP),
        "map, sqrt, rank-gauss": Idea((LITE,), MAP | ROOT | RANKS),
    },
}


@dataclass(frozen=True)
class Measured:
    """SRCC and PLCC (S,) of an idea on S splits, and the mean of test rows over training rows."""

    srcc: np.ndarray
    plcc: np.ndarray
    share: float


def load(
    data: Path,
    stores: Path,
    idea: Idea,
) -> FusedFeatures:
    """Return the fused vectors of an idea.

    Raises:
        StoreError: Features of the idea are not stored.
    """
    images, texts = find_stores(stores, idea.images, ["minilm"])
    manifest = check(data, known=StoredKeys(images)).manifest
    options = FitOptions(estimator=HEAD, head=dict(idea.options), stages=idea.stages)
    return fused_features(manifest, FeatureStores.of(images, texts), options)


def measure(
    idea: Idea,
    fused: FusedFeatures,
    seeds: int,
) -> dict[str, Measured]:
    """Fit the heads of an idea to every split and score; return the values by score."""
    splits = make_splits(fused.rows, "prompt", seeds, FIRST_SEED, validation=0)
    share = float(np.mean([len(split.test) / len(split.train) for split in splits]))
    measured = {}
    for target in fused.rows.target_names:
        scores = fused.rows.scores(target)
        heads = [make_head(HEAD, idea.options, split.seed) for split in splits]
        tasks = [FitTask(scores, split.train, group=fused.rows.group) for split in splits]
        fit_heads(HEAD, heads, fused.X, fused.streams, tasks, lambda _: None)
        values = []
        for head, split in zip(heads, splits, strict=True):
            pair = scores[split.test], head.predict(fused.X[split.test])
            values.append((spearmanr(*pair).statistic, pearsonr(*pair).statistic))
        srcc, plcc = np.array(values).T
        measured[target] = Measured(srcc, plcc, share)
    return measured


def gain_text(
    values: np.ndarray,
    base: np.ndarray,
    share: float,
) -> str:
    """Return the mean difference of values (S,) from those of a base, with its interval."""
    gains = values - base
    error = np.sqrt(gains.var(ddof=1) * (1 / len(gains) + share))
    reach = student.ppf((1 + LEVEL) / 2, len(gains) - 1) * error
    mean = gains.mean()
    return f"{mean:+.4f} [{mean - reach:+.4f}, {mean + reach:+.4f}]"


def print_row(
    name: str,
    measured: Mapping[str, Measured],
    base: Mapping[str, Measured],
) -> None:
    """Print a row of the table: SRCC / PLCC of each score, and the gains of both over the base."""
    cells = []
    for target, found in measured.items():
        cells.append(f"{found.srcc.mean():.4f} / {found.plcc.mean():.4f}")
        cells.append("" if found is base[target] else gain_text(found.srcc, base[target].srcc, found.share))
        cells.append("" if found is base[target] else gain_text(found.plcc, base[target].plcc, found.share))
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def measure_ideas(
    data: Path,
    stores: Path,
    ideas: Mapping[str, Idea],
    wanted: Sequence[str],
    seeds: int,
) -> dict[str, dict[str, Measured]]:
    """Measure the first idea and the wanted ones, and print a row for each."""
    base = next(iter(ideas))
    found: dict[str, dict[str, Measured]] = {}
    for name in dict.fromkeys([base, *wanted]):
        try:
            fused = load(data, stores, ideas[name])
        except StoreError as error:
            print(f"left out: {name}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        if not found:
            titles = [f"{target} | gain in SRCC | gain in PLCC" for target in fused.rows.target_names]
            print(f"| idea | {' | '.join(titles)} |\n|---|{'---|' * (3 * len(titles))}", flush=True)
        found[name] = measure(ideas[name], fused, seeds)
        print_row(name, found[name], found[base])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the data set")
    parser.add_argument("--features", type=Path, required=True, help="folder of stores")
    parser.add_argument("--preset", choices=IDEAS, default="clip", help="the base of the gains")
    parser.add_argument("--ideas", nargs="+", help="names of ideas to measure; all by default")
    parser.add_argument("--seeds", type=int, default=10, help="number of splits, the first of seed 100")
    arguments = parser.parse_args()
    ideas = IDEAS[arguments.preset]
    wanted = arguments.ideas or list(ideas)
    if unknown := set(wanted) - set(ideas):
        parser.error(f"no such ideas: {', '.join(sorted(unknown))}; there are {', '.join(ideas)}")
    with process_policy():
        found = measure_ideas(arguments.data, arguments.features, ideas, wanted, arguments.seeds)
    values = {}
    for name, measured in found.items():
        values[name] = {
            target: {"srcc": one.srcc.round(4).tolist(), "plcc": one.plcc.round(4).tolist()}
            for target, one in measured.items()
        }
    print(json.dumps(values))


if __name__ == "__main__":
    main()
