"""Stage 2: fusion, head, splits, figures and intervals are what their formulas say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from tier4k.heads.data.features import FeatureSet
from tier4k.heads.data.fusion import FusionError, fuse, require_possible
from tier4k.heads.data.splits import SplitError, make_splits
from tier4k.heads.evaluation.baselines import BASELINES, generator_and_prompt, generator_mean, sibling_mean
from tier4k.heads.metrics import correlation as metrics
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.mlp.recipes import PUBLISHED_RECIPE
from tier4k.heads.regressors.mlp.stack import HeadNetwork


def feature_set(rows: int = 80, seed: int = 0) -> FeatureSet:
    random = np.random.default_rng(seed)
    has = np.arange(rows) % 2 == 0
    image_prompt = random.normal(size=(rows, 6)) * has[:, None]
    return FeatureSet(
        text=random.normal(size=(rows, 4)),
        image=random.normal(size=(rows, 6)),
        image_prompt=image_prompt,
        has_image_prompt=has,
        targets=random.uniform(0, 5, (rows, 1)),
        target_names=("MOS_q",),
        name=np.array([f"G_{row}.jpg" for row in range(rows)], dtype=object),
        group=np.array([f"p{row // 4}" for row in range(rows)], dtype=object),
        generator=np.array([f"g{row % 3}" for row in range(rows)], dtype=object),
        position=np.arange(rows),
        picture=np.array([f"{row:064x}" for row in range(rows)], dtype=object),
    )


def test_fusion_is_as_published_text_first() -> None:
    f = feature_set()
    np.testing.assert_array_equal(fuse(f, "nr"), np.hstack([f.text, f.image]))
    partial = fuse(f, "pr")[:, 4:]
    np.testing.assert_allclose(
        partial[f.has_image_prompt], ((f.image + f.image_prompt) / 2)[f.has_image_prompt]
    )
    np.testing.assert_array_equal(partial[~f.has_image_prompt], f.image[~f.has_image_prompt])
    with pytest.raises(FusionError, match="40 of 80"):
        fuse(f, "fr")
    with pytest.raises(FusionError, match="--benchmark I2I"):
        require_possible("fr", "T2I")


def test_the_head_is_a_scikit_learn_estimator() -> None:
    check_estimator(MLPHead(), on_skip=None)
    X, y = np.random.default_rng(0).normal(size=(60, 5)), np.arange(60.0)
    assert cross_val_score(MLPHead(max_epochs=2), X, y, cv=3).shape == (3,)


def test_the_published_recipe_is_plain_adam_with_l2_on_raw_scores() -> None:
    random = np.random.default_rng(0)
    X, y = random.normal(size=(20, 6)).astype(np.float32), random.uniform(0, 5, 20)
    head = MLPHead(**PUBLISHED_RECIPE | {"max_epochs": 3}, random_state=5).fit(X, y)
    torch.manual_seed(np.random.RandomState(5).randint(2**31 - 1))
    network = HeadNetwork(6)
    assert network.fc1.out_features == 3
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=1e-5)
    inputs, scores = torch.from_numpy(X), torch.from_numpy(y.astype(np.float32))
    for _ in range(3):
        for rows in torch.randperm(20).split(8):
            optimizer.zero_grad()
            ((network(inputs[rows]) - scores[rows]) ** 2).mean().backward()
            optimizer.step()
    for name, tensor in network.state_dict().items():
        np.testing.assert_allclose(head.weights_[name], tensor.numpy(), atol=1e-5)


def test_the_kept_weights_are_those_of_the_best_validation_epoch() -> None:
    random = np.random.default_rng(1)
    X, y = random.normal(size=(50, 8)) * 3 + 2, random.uniform(0, 5, 50)
    held, course = (X[:10], y[:10]), {}
    head = MLPHead(random_state=0).fit(
        X[10:], y[10:], held, lambda epoch, predict: course.update({epoch: predict(held[0])})
    )
    assert head.best_epoch_ == 1 + int(np.argmin(head.validation_loss_))
    np.testing.assert_allclose(head.predict(held[0]), course[head.best_epoch_], atol=1e-4)


def test_a_prompt_split_parts_no_prompt_and_the_published_one_tests_every_fourth_row() -> None:
    f = feature_set()
    for split in make_splits(f, "prompt", 5, seed=0):
        assert not split.seen(f.group).any()
        assert not set(f.group[split.train]) & set(f.group[split.validation])
        assert sorted([*split.train, *split.validation, *split.test]) == list(range(80))
    published = make_splits(f, "published", 1, seed=0)[0]
    assert published.test.tolist() == list(range(3, 80, 4))
    assert published.seen(f.group).tolist() == [True] * 20


def test_floors_never_look_at_test_scores_and_siblings_help_only_where_the_split_leaks() -> None:
    f = feature_set()
    split = make_splits(f, "prompt", 1, seed=0)[0]
    scores = f.targets[:, 0]
    changed = scores.copy()
    changed[split.test] = 99
    train = np.concatenate([split.train, split.validation])
    for floor in BASELINES.values():
        np.testing.assert_array_equal(
            floor(f, scores, train, split.test), floor(f, changed, train, split.test)
        )
    for floor in (sibling_mean, generator_and_prompt):
        np.testing.assert_array_equal(
            floor(f, scores, train, split.test), generator_mean(f, scores, train, split.test)
        )


def test_correlations_keep_their_sign_and_do_not_exist_for_constants() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(size=50)
    backwards = -truth + random.normal(size=50) * 0.1
    figures = metrics.evaluate(truth, backwards)
    assert figures["srcc"] == pytest.approx(spearmanr(truth, backwards).statistic) and figures["srcc"] < -0.9
    assert not figures["plcc_logistic"] > 0  # a falling curve would be an absolute value in disguise
    assert (
        np.isnan(metrics.srcc(truth, np.ones(50)))
        and metrics.why_nan(truth, np.ones(50)) == "all predictions are equal"
    )


def test_the_logistic_is_recovered() -> None:
    x = np.linspace(-2, 3, 80)
    truth = metrics.logistic(x, 4.5, 0.5, 0.4, 0.6)
    np.testing.assert_allclose(metrics.logistic_mapping(truth, x), truth, atol=1e-4)


def rated(prompt_effect: float, noise: float, rows: int = 1200) -> tuple[FeatureSet, np.ndarray, np.ndarray]:
    """Scores = generator + prompt + noise, four pictures for each prompt; the last picture of each is to be predicted."""
    f, random = feature_set(rows), np.random.default_rng(0)
    _, generator = np.unique(f.generator, return_inverse=True)
    _, prompt = np.unique(f.group, return_inverse=True)
    scores = generator + prompt_effect * random.normal(size=rows)[prompt] + noise * random.normal(size=rows)
    return f, scores, np.arange(rows) % 4 == 3


@pytest.mark.parametrize(("prompt_effect", "noise"), [(1.0, 1.0), (1.0, 0.01), (0.5, 1.0)])
def test_the_effect_of_a_prompt_is_shrunk_as_its_variance_says(prompt_effect: float, noise: float) -> None:
    f, scores, is_test = rated(prompt_effect, noise)
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    base = generator_mean(f, scores, train, np.arange(len(f)))
    residual = (scores - base)[train].reshape(-1, 3).mean(1)  # the rows of a prompt are neighbours
    known = residual * prompt_effect**2 / (prompt_effect**2 + noise**2 / 3)  # with the true variances
    found = generator_and_prompt(f, scores, train, test) - base[test]
    np.testing.assert_allclose(found, known, atol=0.1 * np.abs(known).max())
    assert np.std(scores[test] - base[test] - found) < np.std(scores[test] - base[test])


def test_prompts_without_an_effect_are_given_hardly_any() -> None:
    f, scores, is_test = rated(0.0, 1.0)
    train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
    found = generator_and_prompt(f, scores, train, test) - generator_mean(f, scores, train, test)
    assert np.abs(found).max() < 0.2


def test_a_prompt_that_training_does_not_hold_has_no_effect_where_every_prompt_has_one_score() -> None:
    f = replace(feature_set(24), generator=np.full(24, "g0", dtype=object))
    train, test = np.arange(16), np.arange(12, 24)
    found = generator_and_prompt(f, np.repeat(np.arange(6.0), 4), train, test)
    np.testing.assert_allclose(
        found, np.repeat([3.0, 1.5, 1.5], 4)
    )  # one prompt as in training, two as the generator


def test_the_generator_split_leaves_each_generator_out_once() -> None:
    f = feature_set()
    splits = make_splits(f, "generator", 3, seed=0)
    assert [set(f.generator[split.test]) for split in splits] == [{"g0"}, {"g1"}, {"g2"}]
    for split in splits:
        parts = [set(f.generator[part]) for part in (split.train, split.validation, split.test)]
        assert all(len(part) == 1 for part in parts) and set.union(*parts) == {"g0", "g1", "g2"}
        np.testing.assert_array_equal(
            np.sort(np.concatenate([split.train, split.validation, split.test])), np.arange(len(f))
        )
    two = replace(f, generator=np.where(f.generator == "g2", "g0", f.generator))
    with pytest.raises(SplitError, match="2 generators are too few"):
        make_splits(two, "generator", 1, seed=0)


def test_a_generator_split_is_refused_where_it_would_repeat_or_leave_nothing() -> None:
    f = feature_set()
    with pytest.raises(SplitError, match="give --repeats 3"):
        make_splits(f, "generator", 4, seed=0)
    alone = replace(f, generator=np.r_[np.array(["a new one"], dtype=object), f.generator[1:]])
    with pytest.raises(SplitError, match=r"1 to test \(a new one\)"):
        make_splits(alone, "generator", 1, seed=0)
