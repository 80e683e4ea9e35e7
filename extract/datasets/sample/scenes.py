"""Scenes and styles of the sample: what a prompt asks for, and what a generator makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from numpy.random import Generator as Rng

RGB = tuple[int, int, int]

MOST_SHAPES = 6  # in an image

MOST_MISSING = 3  # in an image; a prompt may ask for as many more than `MOST_SHAPES`

MOST_LOST = 0.6  # of a style's age; the age of an image is in [0, 1], of an image prompt in [0, 1.6]

MISTAKE = 0.25  # chance of a wrong colour, and of a wrong shape

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

COLOURS: dict[str, RGB] = {
    "red": (215, 30, 45),
    "green": (20, 150, 70),
    "blue": (35, 70, 200),
    "purple": (130, 40, 160),
    "black": (20, 20, 25),
}

BACKGROUNDS: dict[str, RGB] = {"white": (240, 240, 240), "grey": (195, 195, 195)}

# Corners and radius (in sides of the image) of the polygon that draws each shape; their areas are nearly
# equal, so that the coloured area is proportional to the number of shapes.
SHAPES = {"circle": (60, 0.11), "triangle": (3, 0.14), "square": (4, 0.13)}


@dataclass(frozen=True)
class Scene:
    """The subject of an image, described by the text prompt."""

    count: int
    colour: str
    shape: str
    background: str

    @property
    def prompt(self) -> str:
        """The text prompt, such as "three red circles on a white background"."""
        number = NUMBERS[self.count - 1]
        plural = "s" if self.count > 1 else ""
        return f"{number} {self.colour} {self.shape}{plural} on a {self.background} background"


@dataclass(frozen=True)
class Style:
    """The age that the image prompt shows: from 0 (smooth, clear) to 1.6 (striped, brown)."""

    age: float


def random_scenes(number: int, rng: Rng) -> list[Scene]:
    """Distinct scenes that prompts ask for."""
    scenes: list[Scene] = []
    for _ in range(number):
        # Drawn once, outside the search: redrawing the count of a scene that exists would favour rare counts.
        count = int(rng.integers(1, MOST_SHAPES + 1) + rng.integers(MOST_MISSING + 1))
        scene = _random_scene(count, rng)
        while scene in scenes:
            scene = _random_scene(count, rng)
        scenes.append(scene)
    return scenes


def _random_scene(count: int, rng: Rng) -> Scene:
    colour = rng.choice(list(COLOURS))
    shape = rng.choice(list(SHAPES))
    background = rng.choice(list(BACKGROUNDS))
    return Scene(count, str(colour), str(shape), str(background))


def random_style(most_lost: float, rng: Rng) -> Style:
    """A style that a prompt asks for, of which a generator may lose up to `most_lost`."""
    return Style(rng.random() + most_lost * rng.random())


def mistaken_scene(asked: Scene, rng: Rng) -> Scene:
    """The scene as a generator draws it: with too few shapes, and a wrong colour or shape now and then."""
    fewest_missing = max(0, asked.count - MOST_SHAPES)
    most_missing = min(MOST_MISSING, asked.count - 1)
    missing = int(rng.integers(fewest_missing, most_missing + 1))
    colour = _mistaken_name(asked.colour, list(COLOURS), rng)
    shape = _mistaken_name(asked.shape, list(SHAPES), rng)
    return replace(asked, count=asked.count - missing, colour=colour, shape=shape)


def _mistaken_name(
    name: str,
    names: Sequence[str],
    rng: Rng,
) -> str:
    if rng.random() >= MISTAKE:
        return name
    others = [other for other in names if other != name]
    return str(rng.choice(others))


def mistaken_style(asked: Style, rng: Rng) -> Style:
    """The style as a generator draws it: too young."""
    least_lost = max(0, asked.age - 1)
    most_lost = min(MOST_LOST, asked.age)
    return Style(asked.age - rng.uniform(least_lost, most_lost))
