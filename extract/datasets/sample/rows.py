"""Rows of the sample: prompts, simulated generators, and their scores, without any pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator as Rng

from tier4k.extract.datasets.sample.degradation import Degradation
from tier4k.extract.datasets.sample.ratings import correspondence, fidelity, mean_opinion, quality
from tier4k.extract.datasets.sample.scenes import (
    MOST_LOST,
    Scene,
    Style,
    mistaken_scene,
    mistaken_style,
    random_scenes,
    random_style,
)

IMAGE_TO_IMAGE_PROMPTS = 40

TEXT_TO_IMAGE_PROMPTS = 27

IMAGES_PER_GENERATOR = 2  # of each prompt

FIRST_PROMPT_NUMBER = 1000


@dataclass(frozen=True)
class Simulator:
    """One simulated generator: the side of its images in pixels, and its largest amounts of damage."""

    name: str
    side: int
    worst: Degradation


SIMULATORS = (
    Simulator("Alpha", 256, Degradation(blur=1.0, noise=0.5, fade=0.7, glitch=0.8)),
    Simulator("Beta", 272, Degradation(blur=0.7, noise=1.0, fade=0.8, glitch=1.0)),
    Simulator("Gamma", 288, Degradation(blur=0.6, noise=0.6, fade=1.0, glitch=0.9)),
)

IMAGE_TO_IMAGE_SIMULATORS = SIMULATORS[:2]


@dataclass(frozen=True)
class SampleRow:
    """One row: the request, the drawing, and the scores; `image_prompt` is "" in text-to-image rows."""

    name: str
    image_prompt: str
    asked: Scene
    asked_style: Style
    drawn: Scene
    drawn_style: Style
    side: int
    degradation: Degradation
    mos_q: float
    mos_a: float
    mos_c: float


def sample_rows(seed: int = 0) -> list[SampleRow]:
    """All rows in the order of the table: image-to-image first, neighbours share prompt and generator."""
    rng = np.random.default_rng(seed)
    rows = []
    scenes = random_scenes(IMAGE_TO_IMAGE_PROMPTS + TEXT_TO_IMAGE_PROMPTS, rng)
    for index, scene in enumerate(scenes):
        rows.extend(_rows_of_prompt(index, scene, rng))
    return rows


def _rows_of_prompt(
    index: int,
    scene: Scene,
    rng: Rng,
) -> list[SampleRow]:
    number = FIRST_PROMPT_NUMBER + index
    image_to_image = index < IMAGE_TO_IMAGE_PROMPTS
    style = random_style(MOST_LOST if image_to_image else 0, rng)
    image_prompt = f"{number}.jpg" if image_to_image else ""
    rows = []
    for simulator in IMAGE_TO_IMAGE_SIMULATORS if image_to_image else SIMULATORS:
        for copy in range(IMAGES_PER_GENERATOR):
            name = f"{simulator.name}_{number}_{copy:02d}.jpg"
            rows.append(_row(name, image_prompt, scene, style, simulator, rng))
    return rows


def _row(
    name: str,
    image_prompt: str,
    asked: Scene,
    asked_style: Style,
    simulator: Simulator,
    rng: Rng,
) -> SampleRow:
    # The order of the draws is part of the sample: another order gives other images for the same seed.
    degradation = _random_degradation(simulator.worst, not image_prompt, rng)
    drawn = mistaken_scene(asked, rng)
    if image_prompt:
        drawn_style = mistaken_style(asked_style, rng)
        authenticity = fidelity(asked_style, drawn_style)
    else:
        drawn_style = asked_style
        authenticity = 1 - degradation.glitch
    return SampleRow(
        name=name,
        image_prompt=image_prompt,
        asked=asked,
        asked_style=asked_style,
        drawn=drawn,
        drawn_style=drawn_style,
        side=simulator.side,
        degradation=degradation,
        mos_q=mean_opinion(quality(degradation), rng),
        mos_a=mean_opinion(authenticity, rng),
        mos_c=mean_opinion(correspondence(asked, drawn), rng),
    )


def _random_degradation(
    worst: Degradation,
    with_glitch: bool,
    rng: Rng,
) -> Degradation:
    blur, noise, fade, glitch = rng.random(4).tolist()
    return Degradation(
        blur=blur * worst.blur,
        noise=noise * worst.noise,
        fade=fade * worst.fade,
        glitch=glitch * worst.glitch if with_glitch else 0,
    )
