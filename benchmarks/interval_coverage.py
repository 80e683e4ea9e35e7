"""Coverage of intervals and false differences, in simulated worlds with a known truth.

    python benchmarks/interval_coverage.py [--worlds 2000] [--noise-worlds 200] [--jobs 2]

A world has the size of AGIQA-3K-100: 6 generators draw 10 images of each of 50 or 150 prompts. A score is

    prompt effect + generator effect + effect of the image,

with shares .5, .2 and .3 of the variance; the generators are the same in every world. Two encoders see the
same signal with noise of their own: each of their 48 columns is the score plus noise, half of whose variance
is the prompt's. The size of the noise is such that a ridge reaches an SRCC of about .5, or about .8, on new
prompts. Every world is fitted with the project's ridge in 10 repeats and in 5 folds, with the project's
splits.

The truth is the estimand of `tier4k.heads.metrics.recipe`: the SRCC expected of a ridge that is fitted on a
new training set of this size (80 % of the prompts) and tested on very many new prompts, from separate worlds.
The encoders are exchangeable, so every difference found between them is false.

Methods, all on the same worlds:

recipe        what the program reports: t of the doubled bootstrap variance (here of 400 resamples instead of
              1,000, which is faster and gives the deviation an error of 4 instead of 2 %)
fitted heads  percentiles of the bootstrap over test prompts
corrected t   the corrected resampled t (Nadeau & Bengio, Machine Learning 52, 2003) of the repeats' values

The search is simulated in worlds in which nothing can be learned: 30 candidates are sets of features without
any signal, and each of 10 repeats chooses one (`tier4k.heads.evaluation.nested`). The old rule chose the
candidate with the highest mean of all repeats' selection SRCC.

The last line is one JSON object. Of the method `recipe`, over all cells:

coverage_min, coverage_max
    smallest and largest share of worlds whose 95 % interval covers the truth
false_positive_max
    largest share of worlds with p < .05 between the two encoders
search_bias
    mean test SRCC of the chosen candidates, whose true SRCC is 0
search_bias_of_means
    the same of the old rule
worlds
    worlds in each cell
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# One process per core fits worlds, and threads of the products would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from joblib import cpu_count
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import Fused
from tier4k.heads.data.split_request import SplitRequest
from tier4k.heads.data.splits import TEST_SHARE, Split
from tier4k.heads.data.streams import Streams
from tier4k.heads.evaluation.nested import FusedCandidate, nested_selection
from tier4k.heads.metrics.bootstrap import resampled_means, spread
from tier4k.heads.metrics.correlation import srcc
from tier4k.heads.metrics.recipe import recipe_interval, recipe_p
from tier4k.heads.metrics.test_rows import TestRows
from tier4k.heads.regressors.registry import resolve_options
from tier4k.heads.regressors.ridge import RidgeHead
from tier4k.heads.regressors.tasks import FitTask

GENERATOR_OF_IMAGE = np.array([0, 1, 2, 3, 4, 5, 2, 3, 4, 5])
GENERATOR_EFFECTS = np.array([-1.5, -0.9, -0.3, 0.3, 0.9, 1.5])
IMAGES = len(GENERATOR_OF_IMAGE)
PROMPT_SHARE, GENERATOR_SHARE, IMAGE_SHARE = 0.5, 0.2, 0.3
COLUMNS = 48
NOISE = {(50, 0.5): 8.9, (50, 0.8): 4.3, (150, 0.5): 9.9, (150, 0.8): 4.7}
PROTOCOLS = {"10 repeats": SplitRequest(repeats=10), "5 folds": SplitRequest(folds=5)}
TRUTH_WORLDS, TRUTH_PROMPTS = 400, 400
RESAMPLES = 400
METHODS = ("recipe", "fitted heads", "corrected t")
NOISE_PROMPTS, NOISE_COLUMNS, CANDIDATES = 50, 16, 30
LEVEL = 0.95


@dataclass(frozen=True)
class World:
    """The scores (N,) of a data set, its prompts (N,), and the features (2, N, d) of two encoders."""

    scores: np.ndarray
    prompt: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class Found:
    """The result of one method in one world.

    Attributes:
        covered: For each encoder, whether the interval covers the truth.
        width: Mean width of the two intervals.
        differs: Whether the encoders differ at the level .05.
    """

    covered: tuple[bool, bool]
    width: float
    differs: bool


def make_world(
    random: np.random.Generator,
    prompts: int,
    noise: float,
) -> World:
    """Draw a world; `noise` is the deviation of an encoder's noise over that of the scores."""
    generator = GENERATOR_EFFECTS[GENERATOR_OF_IMAGE]
    generator = (generator - generator.mean()) / generator.std()
    scores = (
        np.sqrt(PROMPT_SHARE) * random.normal(size=(prompts, 1))
        + np.sqrt(GENERATOR_SHARE) * generator
        + np.sqrt(IMAGE_SHARE) * random.normal(size=(prompts, IMAGES))
    )
    of_prompt = random.normal(size=(2, prompts, 1, COLUMNS))
    of_image = random.normal(size=(2, prompts, IMAGES, COLUMNS))
    features = scores[..., None] + noise * np.sqrt(0.5) * (of_prompt + of_image)
    return World(
        scores.ravel(),
        np.repeat(np.arange(prompts), IMAGES),
        features.reshape(2, prompts * IMAGES, COLUMNS),
    )


def rows_of(scores: np.ndarray, prompt: np.ndarray) -> FeatureSet:
    """Return the rows of a world as the splits take them, without features."""
    count = len(scores)
    return FeatureSet(
        name=np.arange(count).astype(str).astype(object),
        group=prompt.astype(str).astype(object),
        generator=np.resize(GENERATOR_OF_IMAGE, count).astype(str).astype(object),
        position=np.arange(count),
        image_key=np.arange(count).astype(str).astype(object),
        dataset=np.full(count, "toy"),
        text={},
        image={},
        image_prompt={},
        has_image_prompt=np.zeros(count, bool),
        targets=scores[:, None],
        target_names=("score",),
    )


def fit(
    features: np.ndarray,
    scores: np.ndarray,
    splits: Sequence[Split],
) -> list[np.ndarray]:
    """Fit a ridge on the training rows of each split, and predict its test rows."""
    heads = [RidgeHead(leave_out="row") for _ in splits]
    RidgeHead.fit_many(heads, features, [FitTask(scores, split.train) for split in splits])
    return [head.predict(features[split.test]) for head, split in zip(heads, splits, strict=True)]


def true_srcc(
    pool: ProcessPoolExecutor,
    prompts: int,
    level: float,
) -> float:
    """Return the expected SRCC of the recipe on new prompts."""
    values = pool.map(partial(test_on_new_prompts, prompts, level), range(TRUTH_WORLDS), chunksize=10)
    return float(np.mean(list(values)))


def test_on_new_prompts(
    prompts: int,
    level: float,
    number: int,
) -> float:
    """Fit a ridge for each encoder of a world, and return the mean SRCC on very many new prompts."""
    training_prompts = round((1 - TEST_SHARE) * prompts)
    random = np.random.default_rng([1, prompts, round(10 * level), number])
    world = make_world(random, training_prompts + TRUTH_PROMPTS, NOISE[prompts, level])
    rows = np.arange(len(world.scores))
    is_training = world.prompt < training_prompts
    split = Split(rows[is_training], rows[:0], rows[~is_training], seed=0)
    values = []
    for features in world.features:
        (predicted,) = fit(features, world.scores, [split])
        values.append(srcc(world.scores[split.test], predicted))
    return float(np.mean(values))


def examine(
    prompts: int,
    level: float,
    truth: float,
    number: int,
) -> dict[str, dict[str, Found]]:
    """Return what every method finds in one world, by protocol and method."""
    random = np.random.default_rng([2, prompts, round(10 * level), number])
    world = make_world(random, prompts, NOISE[prompts, level])
    rows = rows_of(world.scores, world.prompt)
    found = {}
    for name, request in PROTOCOLS.items():
        splits = request.splits(rows, validation=0.0)
        values = []
        resampled = []
        for features in world.features:
            tested = []
            for split, predicted in zip(splits, fit(features, world.scores, splits), strict=True):
                tested.append(tested_rows(rows, split, predicted))
            values.append([srcc(test.truth, test.prediction) for test in tested])
            resampled.append(resampled_means(tested, metrics=("srcc",), resamples=RESAMPLES)["srcc"])
        tested_prompts = np.unique(np.concatenate([world.prompt[split.test] for split in splits]))
        found[name] = {
            "recipe": by_recipe(np.array(values), np.array(resampled), len(tested_prompts), truth),
            "fitted heads": by_bootstrap(np.array(resampled), truth),
            "corrected t": by_corrected_t(np.array(values), truth),
        }
    return found


def tested_rows(
    rows: FeatureSet,
    split: Split,
    predicted: np.ndarray,
) -> TestRows:
    """Return the test rows of a split with their predictions."""
    test = split.test
    return TestRows(rows.group[test], rows.generator[test], rows.scores("score")[test], predicted)


def by_recipe(
    values: np.ndarray,
    resampled: np.ndarray,
    prompts: int,
    truth: float,
) -> Found:
    """Examine the program's interval, given values (2, R), resampled means (2, B) and test prompts."""
    means = values.mean(axis=1)
    intervals = []
    for mean, of_encoder in zip(means, resampled, strict=True):
        intervals.append(recipe_interval(float(mean), spread(of_encoder).deviation, prompts))
    deviation = spread(resampled[0] - resampled[1]).deviation
    p = recipe_p(float(means[0] - means[1]), deviation, prompts)
    return found_of(intervals, truth, p < 1 - LEVEL)


def by_bootstrap(resampled: np.ndarray, truth: float) -> Found:
    """Examine percentiles of the bootstrap, given resampled means (2, B)."""
    low, high = spread(resampled[0] - resampled[1]).interval
    return found_of([spread(of_encoder).interval for of_encoder in resampled], truth, not low <= 0 <= high)


def by_corrected_t(values: np.ndarray, truth: float) -> Found:
    """Examine the corrected resampled t, given values (2, R)."""
    intervals = [corrected_t(of_encoder) for of_encoder in values]
    low, high = corrected_t(values[0] - values[1])
    return found_of(intervals, truth, not low <= 0 <= high)


def corrected_t(values: np.ndarray) -> tuple[float, float]:
    """Return mean ± t sqrt((1 / R + test rows / training rows) variance) of R values."""
    repeats = len(values)
    variance = values.var(ddof=1) * (1 / repeats + TEST_SHARE / (1 - TEST_SHARE))
    reach = stats.t.ppf((1 + LEVEL) / 2, repeats - 1) * np.sqrt(variance)
    return float(values.mean() - reach), float(values.mean() + reach)


def found_of(
    intervals: Sequence[tuple[float, float]],
    truth: float,
    differs: bool,
) -> Found:
    first, second = intervals
    return Found(
        covered=(first[0] <= truth <= first[1], second[0] <= truth <= second[1]),
        width=(first[1] - first[0] + second[1] - second[0]) / 2,
        differs=differs,
    )


def search_noise(number: int) -> tuple[float, float]:
    """Search among features without signal; return the mean test SRCC of the choices, and of the old rule."""
    random = np.random.default_rng([3, number])
    world = make_world(random, NOISE_PROMPTS, noise=1.0)
    rows = rows_of(world.scores, world.prompt)
    options = resolve_options("ridge", "cached", "", {})
    candidates = []
    for _ in range(CANDIDATES):
        of_prompt = random.normal(size=(NOISE_PROMPTS, 1, NOISE_COLUMNS))
        noise = of_prompt + random.normal(size=(NOISE_PROMPTS, IMAGES, NOISE_COLUMNS))
        fused = Fused(noise.reshape(len(rows), NOISE_COLUMNS), Streams.of(image=NOISE_COLUMNS))
        candidates.append(FusedCandidate(fused, "ridge", options))
    request = SplitRequest(repeats=10)
    result = nested_selection(rows, candidates, "score", request)
    best_of_means = candidates[int(result.selection_srcc.mean(axis=1).argmax())]
    old = nested_selection(rows, [best_of_means], "score", request)
    return float(np.mean(result.test_srcc)), float(np.mean(old.test_srcc))


def main() -> None:
    """Simulate all cells, print a table, and as the last line one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=2000, help="worlds in each cell")
    parser.add_argument("--noise-worlds", type=int, default=200, help="worlds of the search")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="processes")
    arguments = parser.parse_args()
    coverages: list[float] = []
    false_positives: list[float] = []
    print("prompts  SRCC   protocol       method  coverage  false  width")
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for prompts, level in NOISE:
            truth = true_srcc(pool, prompts, level)
            examined = list(
                pool.map(partial(examine, prompts, level, truth), range(arguments.worlds), chunksize=10)
            )
            for protocol in PROTOCOLS:
                for method in METHODS:
                    found = [world[protocol][method] for world in examined]
                    coverage = float(np.mean([one.covered for one in found]))
                    differs = float(np.mean([one.differs for one in found]))
                    width = float(np.mean([one.width for one in found]))
                    print(
                        f"{prompts:>7} {truth:>5.3f} {protocol:>10} {method:>12} {coverage:>9.3f} "
                        f"{differs:>6.3f} {width:>6.3f}",
                        flush=True,
                    )
                    if method == "recipe":
                        coverages.append(coverage)
                        false_positives.append(differs)
        searched = np.array(list(pool.map(search_noise, range(arguments.noise_worlds))))
    bias, old_bias = searched.mean(axis=0)
    error = searched.std(axis=0, ddof=1) / np.sqrt(len(searched))
    print(f"search on noise: {bias:+.4f} ± {error[0]:.4f}; the old rule: {old_bias:+.4f} ± {error[1]:.4f}")
    result = {
        "coverage_min": round(min(coverages), 4),
        "coverage_max": round(max(coverages), 4),
        "false_positive_max": round(max(false_positives), 4),
        "search_bias": round(float(bias), 4),
        "search_bias_of_means": round(float(old_bias), 4),
        "worlds": arguments.worlds,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
