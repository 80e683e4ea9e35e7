"""Short texts that state how many test rows were seen in training."""

import math

from tier4k.heads.results.results import Results

UNKNOWN = "leakage unknown"


def leaked(results: Results) -> dict[str, float]:
    """Return the numbers of test images and test prompts and those seen in training, as means over repeats.

    Returns:
        `leaked_images`, `test_images`, `leaked_prompts`, `test_prompts`; the numbers of what was seen are NaN
        where they are unknown.
    """
    return {
        "leaked_images": _mean(results.seen_images),
        "test_images": _mean(results.test_rows),
        "leaked_prompts": _mean(results.seen_prompts),
        "test_prompts": _mean(results.test_prompts),
    }


def leak_sentence(results: Results) -> str:
    """State how many test prompts and images are in training; "" where none are."""
    numbers = leaked(results)
    parts = []
    for what in ("prompts", "images"):
        if numbers[f"leaked_{what}"] > 0:
            seen, tested = count(numbers[f"leaked_{what}"]), count(numbers[f"test_{what}"])
            parts.append(f"{seen} of {tested} test {what}")
    return f"{' and '.join(parts)} are in training" if parts else ""


def leak_mark(
    leaked_images: float,
    test_images: float,
    leaked_prompts: float,
    test_prompts: float,
) -> str:
    """Return a short mark for a table, such as "leaks 4.1/596 images"; "" where nothing leaks.

    The arguments are those that `leaked` returns.
    """
    if math.isnan(leaked_images):
        return UNKNOWN
    parts = []
    if leaked_prompts:
        parts.append(f"{count(leaked_prompts)}/{count(test_prompts)} prompts")
    if leaked_images:
        parts.append(f"{count(leaked_images)}/{count(test_images)} images")
    return f"leaks {', '.join(parts)}" if parts else ""


def count(number: float) -> str:
    """Format a mean number of rows: one decimal, more for a number under one, and none for a whole number."""
    if 0 < number < 1:
        return f"{number:.2g}"
    return f"{number:,.1f}".removesuffix(".0")


def _mean(counts: tuple[int, ...] | None) -> float:
    return math.nan if counts is None else sum(counts) / len(counts)
