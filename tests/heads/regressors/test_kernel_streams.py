"""Kernels of streams against explicit fits without each prompt, and on scores of a known origin."""

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.gaussian_process.kernels import RBF
from sklearn.utils.estimator_checks import check_estimator

from tier4k.heads.data.streams import Part, Streams
from tier4k.heads.regressors import kernel_search
from tier4k.heads.regressors.kernel import KernelRidgeHead
from tier4k.heads.regressors.kernel_search import LEAST_GAIN, KernelSearch, left_out_residuals
from tier4k.heads.regressors.options import HeadError
from tier4k.heads.regressors.tasks import FitTask

STREAMS = Streams.of(text=3, image=5)
SCALES, PENALTIES = (0.7, 1.4, 2.8), (0.01, 0.1, 1.0)
TWELFTHS = 12


def rows(count: int = 60, streams: Streams = STREAMS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return fused vectors and the groups of their rows; the rows of a group have equal text columns."""
    random = np.random.default_rng(seed)
    groups = np.sort(random.integers(count // 4, size=count))
    X = random.normal(1, 2, (count, streams.width))
    text = streams.mask("text")
    X[:, text] = random.normal(1, 2, (count, text.sum()))[groups]
    return X, groups


def scores(X: np.ndarray, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.2, len(X))
    return 3 + np.sin(X[:, 0]) + np.cos(X[:, 3]) + X[:, 4] / 3 + noise


def dense_kernel(
    X: np.ndarray,
    others: np.ndarray,
    scales: Mapping[str, float],
    weights: Mapping[str, float],
) -> np.ndarray:
    """The kernel of rows and other rows, standardized by the rows X, by scikit-learn's RBF."""
    parts = {}
    for stream in scales:
        own = STREAMS.mask(stream)
        mean, deviation = X[:, own].mean(0), X[:, own].std(0)
        kernel = RBF(scales[stream] * np.sqrt(own.sum()))
        parts[stream] = kernel((others[:, own] - mean) / deviation, (X[:, own] - mean) / deviation)
    total = np.zeros((len(others), len(X)))
    for name, weight in weights.items():
        total += weight * np.prod([parts[stream] for stream in name.split("*")], axis=0)
    return total


def refitted(kernel: np.ndarray, penalty: float, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Predictions of each row by a kernel ridge that is solved anew without the rows of its group."""
    predicted = np.empty(len(y))
    for group in set(groups):
        out = groups == group
        matrix = kernel[np.ix_(~out, ~out)] + penalty * np.eye(np.sum(~out))
        predicted[out] = y.mean() + kernel[np.ix_(out, ~out)] @ np.linalg.solve(matrix, y[~out] - y.mean())
    return predicted


def fitted(kernels: str = "streams", **options: object) -> tuple[KernelRidgeHead, np.ndarray, np.ndarray]:
    X, groups = rows()
    head = KernelRidgeHead(SCALES, PENALTIES, kernels=kernels, **options)  # type: ignore[arg-type]
    return head.fit(X, scores(X), groups=groups, streams=STREAMS), X, groups


def neighbours(
    scales: Mapping[str, float], weights: Mapping[str, float]
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Length-scales and weights that differ in one length-scale, or by a twelfth of weight."""
    found = []
    for stream, scale in scales.items():
        place = SCALES.index(scale)
        found += [(scales | {stream: near}, dict(weights)) for near in SCALES[max(place - 1, 0) : place + 2]]
    for one in weights:
        for other in weights:
            moved = weights | {one: weights[one] + 1 / TWELFTHS}
            moved[other] -= 1 / TWELFTHS
            if min(moved.values()) > -1e-9:
                found.append((dict(scales), moved))
    return found


@pytest.mark.parametrize("kernels", ["streams", "streams+product"])
def test_no_neighbour_has_a_smaller_error_in_fits_without_each_prompt(kernels: str) -> None:
    X, groups = rows()
    y = scores(X)
    head = KernelRidgeHead(SCALES, (0.1,), kernels=kernels).fit(X, y, groups=groups, streams=STREAMS)
    chosen = head.stream_kernels_.kernels
    names = {"text", "image"} | ({"text*image"} if kernels == "streams+product" else set())
    assert set(chosen.weights) == names
    assert sum(chosen.weights.values()) == pytest.approx(1) and min(chosen.weights.values()) >= 0

    def error(scales: Mapping[str, float], weights: Mapping[str, float]) -> float:
        return np.mean((refitted(dense_kernel(X, X, scales, weights), 0.1, y, groups) - y) ** 2)

    least = error(chosen.length_scales, chosen.weights)
    near = neighbours(dict(chosen.length_scales), dict(chosen.weights))
    assert len(near) > 4
    assert min(error(*one) for one in near) >= (1 - LEAST_GAIN) * least - 1e-6


@pytest.mark.parametrize("grouped", [True, False])
def test_the_error_of_a_candidate_is_that_of_fits_without_each_prompt_or_row(grouped: bool) -> None:
    X, groups = rows()
    y = scores(X)
    kernel = dense_kernel(X, X, {"text": 1.4, "image": 0.7}, {"text": 0.25, "image": 0.5, "text*image": 0.25})
    found = left_out_residuals(kernel, 0.01, y - y.mean(), groups if grouped else None)
    expected = refitted(kernel, 0.01, y, groups if grouped else np.arange(len(y)))
    np.testing.assert_allclose(y - found, expected, atol=1e-9)


def test_a_singular_candidate_is_never_chosen() -> None:
    residuals = left_out_residuals(np.ones((4, 4)), 1e-300, np.arange(4.0), None)
    assert residuals.shape == (4,) and np.isinf(residuals).all()


@pytest.mark.parametrize("kernels", ["streams", "streams+product"])
def test_the_head_is_a_kernel_ridge_with_the_sum_of_kernels(kernels: str) -> None:
    head, X, _ = fitted(kernels)
    y, (others, _) = scores(X), rows(20, seed=5)
    learnt = head.stream_kernels_.kernels
    kernel = dense_kernel(X, X, learnt.length_scales, learnt.weights)
    dual = np.linalg.solve(kernel + head.penalty_ * np.eye(len(y)), y - y.mean())
    expected = y.mean() + dense_kernel(X, others, learnt.length_scales, learnt.weights) @ dual
    np.testing.assert_allclose(head.predict(others), expected, atol=1e-5)


@pytest.mark.parametrize("leave_out", ["row", "group"])
def test_leave_out_chooses_the_penalty_of_the_learnt_kernel(leave_out: str) -> None:
    head, X, groups = fitted(leave_out=leave_out)
    y, learnt = scores(X), head.stream_kernels_.kernels
    kernel = dense_kernel(X, X, learnt.length_scales, learnt.weights)
    left_out = groups if leave_out == "group" else np.arange(len(y))
    errors = [np.mean((refitted(kernel, penalty, y, left_out) - y) ** 2) for penalty in PENALTIES]
    np.testing.assert_allclose(head.error_[0], errors, rtol=1e-4)
    assert head.penalty_ == PENALTIES[int(np.argmin(errors))]


def test_each_row_is_also_predicted_without_the_rows_of_its_prompt() -> None:
    head, X, groups = fitted("streams+product")
    learnt = head.stream_kernels_.kernels
    kernel = dense_kernel(X, X, learnt.length_scales, learnt.weights)
    expected = refitted(kernel, head.penalty_, scores(X), groups)
    np.testing.assert_allclose(head.held_out_, expected, atol=1e-5)


@pytest.mark.parametrize("stream", ["text", "image", "image-prompt"])
def test_weight_goes_to_the_stream_that_has_the_signal(stream: str) -> None:
    streams = Streams.of(text=3, image=3, image_prompt=3)
    X, _ = rows(120, streams, seed=2)
    signal = X[:, streams.mask(stream)]
    y = np.sin(signal[:, 0]) + signal[:, 1]
    head = KernelRidgeHead(kernels="streams").fit(X, y, groups=np.arange(120), streams=streams)
    assert head.stream_kernels_.kernels.weights[stream] >= 0.75


def test_weight_goes_to_the_product_where_only_both_streams_together_have_a_signal() -> None:
    streams = Streams.of(text=2, image=2)
    random = np.random.default_rng(3)
    X, test = random.normal(size=(160, 4)), random.normal(size=(100, 4))

    def truth(inputs: np.ndarray) -> np.ndarray:
        return np.sign(inputs[:, 0]) * inputs[:, 2]

    found = {}
    for kernels in ("streams", "streams+product"):
        head = KernelRidgeHead(kernels=kernels).fit(X, truth(X), groups=np.arange(160) // 2, streams=streams)
        found[kernels] = spearmanr(head.predict(test), truth(test)).statistic
    assert head.stream_kernels_.kernels.weights["text*image"] >= 0.75
    assert found["streams"] < 0.3 and found["streams+product"] > 0.7


@pytest.mark.parametrize("seed", range(6))
def test_products_never_make_the_error_of_leaving_prompts_out_larger(seed: int) -> None:
    X, groups = rows(40, seed=seed)
    y = scores(X, seed)
    errors = {}
    for kernels in ("streams", "streams+product"):
        head = KernelRidgeHead(SCALES, (0.1,), "group", kernels).fit(X, y, groups=groups, streams=STREAMS)
        errors[kernels] = head.error_[0, 0]
    assert errors["streams+product"] <= errors["streams"] * (1 + 1e-9)


def test_encoders_of_one_stream_share_one_kernel() -> None:
    head, X, groups = fitted()
    parts = (Part("text", "a", 3), Part("image", "b", 2), Part("image", "c", 3))
    other = KernelRidgeHead(SCALES, PENALTIES, kernels="streams")
    other.fit(X, scores(X), groups=groups, streams=Streams(parts))
    assert other.stream_kernels_.kernels == head.stream_kernels_.kernels
    np.testing.assert_allclose(other.predict(X), head.predict(X), atol=1e-8)


def test_with_kernels_of_encoders_the_head_is_a_kernel_ridge_with_a_kernel_for_each() -> None:
    parts = (
        Part("text", "minilm", 3),
        Part("image", "clip@448", 2),
        Part("image", "lite", 3),
        Part("interaction", "map", 1),
    )
    X, groups = rows(streams=Streams(parts))
    y = scores(X)
    head = KernelRidgeHead(SCALES, PENALTIES, kernels="encoders+product")
    head.fit(X, y, groups=groups, streams=Streams(parts))
    learnt = head.stream_kernels_.kernels
    columns = {"text": [0, 1, 2], "image clip@448": [3, 4], "image lite": [5, 6, 7], "interaction": [8]}
    assert learnt.length_scales.keys() == columns.keys()
    images = ("image clip@448", "image lite")
    products = {f"{factor}*{image}" for factor in ("text", "interaction") for image in images}
    assert learnt.weights.keys() == columns.keys() | products
    scaled = (X - X.mean(0)) / X.std(0)
    own = {
        name: RBF(learnt.length_scales[name] * np.sqrt(len(at)))(scaled[:, at])
        for name, at in columns.items()
    }
    kernel = np.zeros((len(X), len(X)))
    for name, weight in learnt.weights.items():
        kernel += weight * np.prod([own[factor] for factor in name.split("*")], axis=0)
    dual = np.linalg.solve(kernel + head.penalty_ * np.eye(len(y)), y - y.mean())
    np.testing.assert_allclose(head.predict(X), y.mean() + kernel @ dual, atol=1e-5)
    restored = KernelRidgeHead.from_weights(head.weights_, kernels="encoders+product")
    np.testing.assert_array_equal(restored.predict(X), head.predict(X))


def test_units_of_columns_and_orders_of_rows_and_columns_do_not_matter() -> None:
    head, X, groups = fitted("streams+product")
    random = np.random.default_rng(8)
    order, columns = random.permutation(len(X)), [2, 0, 1, *(3 + random.permutation(5))]
    changed = (X * np.linspace(0.5, 3, 8) - 7)[:, columns]
    other = KernelRidgeHead(SCALES, PENALTIES, kernels="streams+product")
    other.fit(changed[order], scores(X)[order], groups=groups[order], streams=STREAMS)
    assert other.stream_kernels_.kernels == head.stream_kernels_.kernels
    np.testing.assert_allclose(other.predict(changed), head.predict(X), atol=1e-4)


def test_with_one_stream_the_kernel_is_the_joint_one() -> None:
    X, groups = rows()
    y, streams = scores(X), Streams.of(image=8)
    options = {"length_scales": (1.4,), "penalties": PENALTIES}
    joint = KernelRidgeHead(**options).fit(X, y, groups=groups, streams=streams)  # type: ignore[arg-type]
    head = KernelRidgeHead(**options, kernels="streams")  # type: ignore[arg-type]
    head.fit(X, y, groups=groups, streams=streams)
    assert head.stream_kernels_.kernels.weights == {"image": 1.0}
    np.testing.assert_allclose(head.predict(X), joint.predict(X), atol=1e-9)
    np.testing.assert_allclose(head.held_out_, joint.held_out_, atol=1e-9)


def test_a_search_reads_a_part_of_many_rows_and_the_head_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_search, "SEARCH_ROWS", 30)
    X, groups = rows()
    y = X[:, 3]
    distances = {"image": np.square(y[:, None] - y)}
    search = KernelSearch.of(["image"], distances, y, groups, SCALES, PENALTIES)
    assert len(set(search.scores)) == 30 and set(search.scores) < set(y)
    np.testing.assert_array_equal(
        search.distances["image"], np.square(search.scores[:, None] - search.scores)
    )
    np.testing.assert_array_equal(search.groups, [groups[y == score][0] for score in search.scores])
    first, second = fitted("streams+product")[0], fitted("streams+product")[0]
    assert first.weights_["dual"].shape == (60,)
    np.testing.assert_array_equal(first.predict(X), second.predict(X))


def test_heads_with_different_kernels_are_fitted_together_as_alone() -> None:
    X, groups = rows()
    y, train = scores(X), np.arange(50)
    kinds = ("joint", "streams", "streams+product")
    heads = [KernelRidgeHead(SCALES, PENALTIES, kernels=kernels) for kernels in kinds]
    tasks = [FitTask(y, train, group=groups) for _ in kinds]
    KernelRidgeHead.fit_many(heads, X, tasks, streams=STREAMS)
    for head in heads:
        alone = KernelRidgeHead(SCALES, PENALTIES, kernels=head.kernels)
        alone.fit(X[train], y[train], groups=groups[train], streams=STREAMS)
        np.testing.assert_allclose(head.predict(X), alone.predict(X), atol=1e-9)


def test_a_head_with_kernels_of_streams_is_a_scikit_learn_estimator() -> None:
    check_estimator(KernelRidgeHead(kernels="streams"), on_skip=None)


@pytest.mark.parametrize("kernels", ["streams", "streams+product"])
def test_a_head_is_its_tensors_in_any_order(kernels: str) -> None:
    head, X, _ = fitted(kernels)
    stored = dict(reversed(head.weights_.items()))
    restored = KernelRidgeHead.from_weights(stored, kernels=kernels)
    np.testing.assert_array_equal(restored.predict(X), head.predict(X))
    assert restored.stream_kernels_.kernels == head.stream_kernels_.kernels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight.text": np.zeros(2)}, "not the weights of one kernel head"),
        ({"columns.text": np.ones(3, bool)}, "not the weights of one kernel head"),
        ({"columns.text": np.ones(8)}, "the columns of text have type float64, expected bool"),
        ({"columns.text": np.zeros(8, bool)}, "the columns of text .* one or more true"),
        ({"columns.text": np.ones(8, bool)}, "5 of 8 columns belong to none of the streams .* or to two"),
        ({"columns.text": np.eye(8, dtype=bool)[0]}, "2 of 8 columns belong to none of the streams"),
        ({"length_scale.image": np.zeros(1)}, "the length-scale of image is 0, expected a number above 0"),
        ({"length_scale.image": np.array([np.nan])}, "not the weights of one kernel head"),
        ({"weight.text": np.array([5.0])}, "expected numbers from 0 with the sum 1"),
        ({"weight.text": np.array([-1.0]), "weight.image": np.array([2.0])}, "expected numbers from 0 with"),
        ({"weight.text*image": np.zeros(1)}, r"weights of the kernels \['image', 'text', 'text\*image'\]"),
    ],
)
def test_wrong_tensors_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    head, _, _ = fitted()
    with pytest.raises(ValueError, match=message):
        KernelRidgeHead.from_weights(head.weights_ | change, kernels="streams")


@pytest.mark.parametrize("kernels", ["joint", "streams", "streams+product"])
def test_tensors_of_other_kernels_or_missing_ones_are_refused(kernels: str) -> None:
    head, _, _ = fitted(kernels)
    for other in ("joint", "streams", "streams+product"):
        if other != kernels:
            with pytest.raises(ValueError, match="not the weights of one kernel head"):
                KernelRidgeHead.from_weights(head.weights_, kernels=other)
    for name in head.weights_:
        missing = {key: values for key, values in head.weights_.items() if key != name}
        with pytest.raises(ValueError, match="not the weights of one kernel head"):
            KernelRidgeHead.from_weights(missing, kernels=kernels)


@pytest.mark.parametrize(
    "streams", [Streams.of(image=8), Streams.of(text=8), Streams.of(text=6, zero_shot=2)]
)
def test_products_need_text_and_image(streams: Streams) -> None:
    X, _ = rows()
    with pytest.raises(HeadError, match="which needs the streams text and image.* use kernels=streams"):
        KernelRidgeHead(kernels="streams+product").fit(X, scores(X), streams=streams)


def test_other_names_of_kernels_are_refused() -> None:
    X, _ = rows()
    with pytest.raises(HeadError, match="kernels is 'sum', .* use one of joint, streams, streams.product"):
        KernelRidgeHead(kernels="sum").fit(X, scores(X))
