"""The map from prompts to images, against fits that are solved anew without each prompt."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import rbf_kernel

from tier4k.heads.data.prompt_map import AXES, TENSORS, PromptMap, fit_prompt_map

PROMPTS, PER_PROMPT = 9, 4


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of images and texts, scores, and prompts in a shuffled order."""
    random = np.random.default_rng(seed)
    groups = random.permutation(np.repeat(np.arange(PROMPTS), PER_PROMPT))
    texts = random.normal(size=(PROMPTS, 5))[groups]
    images = texts @ random.normal(size=(5, 7)) + random.normal(size=(len(groups), 7))
    return images, texts, random.normal(size=len(groups)), groups


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def expected(
    axes: PCA,
    train: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    images: np.ndarray,
    texts: np.ndarray,
) -> np.ndarray:
    """Cosines by the definition: regression of the mean images on the texts, with a constant, penalty 1."""
    train_images, train_texts, weights, groups = train
    names = np.unique(groups)
    prompts = unit(np.array([unit(train_texts)[groups == name].mean(axis=0) for name in names]))
    projected = unit(axes.transform(train_images))
    means = np.array(
        [np.average(projected[groups == name], axis=0, weights=weights[groups == name]) for name in names]
    )
    count = len(names)
    system = np.zeros((count + 1, count + 1))
    system[:count, :count] = rbf_kernel(prompts, gamma=0.5) + np.eye(count)
    system[count, :count] = system[:count, count] = 1
    solved = np.linalg.solve(system, np.vstack([means, np.zeros(means.shape[1])]))
    predicted = rbf_kernel(unit(texts), prompts, gamma=0.5) @ solved[:count] + solved[count]
    centre = means.mean(axis=0)
    return (unit(unit(axes.transform(images)) - centre) * unit(predicted - centre)).sum(axis=1)


def test_a_new_row_gets_the_cosine_by_the_definition() -> None:
    images, texts, scores, groups = rows()
    weights = np.exp((scores - scores.mean()) / scores.std())
    found, _ = fit_prompt_map(images, texts, scores, groups)
    new_images, new_texts, _, _ = rows(1)
    definition = expected(PCA().fit(images), (images, texts, weights, groups), new_images, new_texts)
    np.testing.assert_allclose(found.cosines(new_images, new_texts)[:, 0], definition, atol=1e-10)


def test_a_training_row_gets_the_cosine_of_a_map_that_is_solved_without_its_prompt() -> None:
    images, texts, scores, groups = rows()
    weights = np.exp((scores - scores.mean()) / scores.std())
    _, cosines = fit_prompt_map(images, texts, scores, groups)
    axes = PCA().fit(images)  # of all rows, as no score or text is read for them
    for name in range(PROMPTS):
        others, own = groups != name, groups == name
        train = (images[others], texts[others], weights[others], groups[others])
        definition = expected(axes, train, images[own], texts[own])
        np.testing.assert_allclose(cosines[own, 0], definition, atol=1e-10)


def test_the_cosine_of_a_training_row_does_not_depend_on_the_scores_of_its_prompt_alone() -> None:
    images, texts, _, groups = rows()
    scores = np.random.default_rng(2).permutation(np.tile([1.0, 2.0, 3.0, 4.0], PROMPTS))
    swapped = scores.copy()
    own = np.flatnonzero(groups == 0)
    swapped[own] = scores[own[::-1]]  # mean and deviation of all scores stay the same
    first, second = (fit_prompt_map(images, texts, y, groups)[1] for y in (scores, swapped))
    np.testing.assert_allclose(first[own], second[own], atol=1e-12)
    assert np.abs(first - second).max() > 1e-6  # that of the other rows does


def test_images_are_reduced_to_their_first_axes() -> None:
    random = np.random.default_rng(3)
    images, texts = random.normal(size=(80, 70)), random.normal(size=(80, 4))
    found, _ = fit_prompt_map(images, texts, random.normal(size=80), np.arange(80) // 4)
    assert found.image_axes.shape == (70, AXES)
    spanned = np.abs(PCA(AXES).fit(images).components_ @ found.image_axes)
    np.testing.assert_allclose(spanned, np.eye(AXES), atol=1e-8)


def test_a_map_is_its_tensors_and_others_are_refused() -> None:
    images, texts, scores, groups = rows()
    found, _ = fit_prompt_map(images, texts, scores, groups)
    restored = PromptMap.restore(found.tensors)
    np.testing.assert_array_equal(restored.cosines(images, texts), found.cosines(images, texts))
    with pytest.raises(ValueError, match="expected"):
        PromptMap.restore({name: found.tensors[name] for name in list(TENSORS)[1:]})
    with pytest.raises(ValueError, match="constant of the map has shape"):
        PromptMap.restore(found.tensors | {"constant": np.zeros(3)})
