"""A synthetic data set in the layout of PKU-AIGIQA-4K, for trying the program without a download.

Every picture shows a `Scene`, which the text prompt tells, in a `Style`, which only the image prompt tells, spoilt by a
`Degradation`. A simulated score is

    MOS = clip(0.5 + 4 g + (e_1 + ... + e_n) / n, 0, 5),    e_k ~ N(0, 0.6^2) for each of n = 20 raters,

where the goodness g in [0, 1] is, with [x] = 1 if x is wrong and else 0,

    MOS_q:  g = 1 - (0.5 blur + 0.3 noise + 0.2 fade)
    MOS_c:  g = 1 - (0.8 missing shapes / 3 + 0.1 [colour] + 0.1 [shape])       against the text prompt
    MOS_a:  g = 1 - lost age / 0.6                                              against the image prompt's style
            g = 1 - glitch                                                      in rows without an image prompt

A shortfall (missing shapes, lost age) is independent of what the picture shows: if the picture's
amount x and the shortfall d are to be independent and uniform, the amount asked for must be distributed as x + d, and d
given that sum is uniform where both x and d stay in their ranges. So is a wrong colour or shape uniform on the others.
A wrong picture is therefore distributed as a right one, whatever its generator: no picture alone tells its MOS_c, which
needs the text, nor the MOS_a of an image-to-image row, which needs the image prompt.
The price: a prompt that asks for much is more often fallen short of (nine shapes are never drawn), so the text alone
hints at MOS_c, and the image prompt alone at MOS_a.

The workbook carries the time at which it was written; its table and all other files are the same for the same seed
and the same versions of NumPy and Pillow.
"""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator as Rng
from PIL import Image, ImageDraw, ImageFilter

from tier4k.cache.errors import TierError

DATA_SET = "PKU-AIGIQA-4K"

MARKER = "sample.json"

VERSION = 1

RATERS, RATER_SD = 20, 0.6

IMAGE_TO_IMAGE_PROMPTS, TEXT_TO_IMAGE_PROMPTS, PICTURES_PER_GENERATOR = 40, 27, 2

OVERSAMPLING = 2

IMAGE_PROMPT_SIDE = 272

MOST_SHAPES, MOST_MISSING = 6, 3  # in a picture; a prompt may ask for their sum

MOST_LOST = 0.6  # of a style's age; a picture's is in [0, 1], an image prompt's in [0, 1.6]

MISTAKE = 0.25  # chance of a wrong colour, and of a wrong shape

RGB = tuple[int, int, int]

Point = tuple[float, float]

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

COLOURS: dict[str, RGB] = {
    "red": (215, 30, 45),
    "green": (20, 150, 70),
    "blue": (35, 70, 200),
    "purple": (130, 40, 160),
    "black": (20, 20, 25),
}

BACKGROUNDS: dict[str, RGB] = {"white": (240, 240, 240), "grey": (195, 195, 195)}

# Corners and radius (in sides of the picture) of the polygon that draws each shape; their areas are nearly equal, so
# that the coloured area goes with the number of shapes.
SHAPES = {"circle": (60, 0.11), "triangle": (3, 0.14), "square": (4, 0.13)}


class SampleError(TierError):
    """The place of the sample data set holds something else."""


@dataclass(frozen=True)
class Scene:
    """What the text prompt tells."""

    count: int
    colour: str
    shape: str
    background: str

    @property
    def prompt(self) -> str:
        """The text prompt, such as "three red circles on a white background"."""
        plural = "s" if self.count > 1 else ""
        return (
            f"{NUMBERS[self.count - 1]} {self.colour} {self.shape}{plural} on a {self.background} background"
        )


@dataclass(frozen=True)
class Style:
    """What only the image prompt tells: how old the picture looks, from 0 (smooth, clear) to 1.6 (striped, brown)."""

    age: float


@dataclass(frozen=True)
class Degradation:
    """How far a picture is spoilt, each amount from 0 (not at all) to 1."""

    blur: float
    noise: float
    fade: float
    glitch: float


@dataclass(frozen=True)
class Simulator:
    """One simulated generator: the side of its pictures in pixels, and the largest amounts by which it spoils them."""

    name: str
    side: int
    worst: Degradation


SIMULATORS = (
    Simulator("Alpha", 256, Degradation(1.0, 0.5, 0.7, 0.8)),
    Simulator("Beta", 272, Degradation(0.7, 1.0, 0.8, 1.0)),
    Simulator("Gamma", 288, Degradation(0.6, 0.6, 1.0, 0.9)),
)


@dataclass(frozen=True)
class Picture:
    """One row: what was asked for, what is drawn, and the scores; `image_prompt` is "" in text-to-image rows."""

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


def quality(amounts: Degradation) -> float:
    """Goodness behind MOS_q, in [0, 1]."""
    return 1 - (0.5 * amounts.blur + 0.3 * amounts.noise + 0.2 * amounts.fade)


def correspondence(asked: Scene, drawn: Scene) -> float:
    """Goodness behind MOS_c, in [0, 1]."""
    missing = (asked.count - drawn.count) / MOST_MISSING
    return 1 - (0.8 * missing + 0.1 * (asked.colour != drawn.colour) + 0.1 * (asked.shape != drawn.shape))


def fidelity(asked: Style, drawn: Style) -> float:
    """Goodness behind MOS_a of rows with an image prompt, in [0, 1]."""
    return 1 - (asked.age - drawn.age) / MOST_LOST


def rated(goodness: float, rng: Rng) -> float:
    """The mean opinion of `RATERS` simulated raters, in [0, 5]."""
    return float(np.clip(0.5 + 4 * goodness + rng.normal(0, RATER_SD, RATERS).mean(), 0, 5))


def plan(seed: int = 0) -> list[Picture]:
    """All rows in the order of the table: image-to-image first, neighbours share prompt and generator."""
    rng = np.random.default_rng(seed)
    pictures = []
    for index, scene in enumerate(_new_scenes(IMAGE_TO_IMAGE_PROMPTS + TEXT_TO_IMAGE_PROMPTS, rng)):
        guided = index < IMAGE_TO_IMAGE_PROMPTS
        style = _new_style(MOST_LOST if guided else 0, rng)
        image_prompt = f"{1000 + index}.jpg" if guided else ""
        for simulator in SIMULATORS[: 2 if guided else 3]:
            for copy in range(PICTURES_PER_GENERATOR):
                name = f"{simulator.name}_{1000 + index}_{copy:02d}.jpg"
                pictures.append(_new_picture(name, image_prompt, scene, style, simulator, rng))
    return pictures


def _new_scenes(number: int, rng: Rng) -> list[Scene]:
    scenes: list[Scene] = []
    for _ in range(number):
        # Drawn once, outside the search: to redraw a count that is taken would favour the rare ones.
        count = int(rng.integers(1, MOST_SHAPES + 1) + rng.integers(MOST_MISSING + 1))
        while (scene := _scene_of(count, rng)) in scenes:
            pass
        scenes.append(scene)
    return scenes


def _scene_of(count: int, rng: Rng) -> Scene:
    colour, shape, background = (str(rng.choice(list(names))) for names in (COLOURS, SHAPES, BACKGROUNDS))
    return Scene(count, colour, shape, background)


def _new_style(most_lost: float, rng: Rng) -> Style:
    return Style(rng.random() + most_lost * rng.random())


def _new_picture(
    name: str, image_prompt: str, scene: Scene, style: Style, simulator: Simulator, rng: Rng
) -> Picture:
    worst = simulator.worst
    blur, noise, fade, glitch = rng.random(4).tolist()
    glitch = 0 if image_prompt else glitch * worst.glitch
    amounts = Degradation(blur * worst.blur, noise * worst.noise, fade * worst.fade, glitch)
    drawn, drawn_style = _mistaken(scene, rng), _departed(style, rng) if image_prompt else style
    authentic = fidelity(style, drawn_style) if image_prompt else 1 - glitch
    goodness = quality(amounts), authentic, correspondence(scene, drawn)
    scores = (rated(g, rng) for g in goodness)
    return Picture(name, image_prompt, scene, style, drawn, drawn_style, simulator.side, amounts, *scores)


def _mistaken(asked: Scene, rng: Rng) -> Scene:
    missing = rng.integers(max(0, asked.count - MOST_SHAPES), min(MOST_MISSING, asked.count - 1) + 1)
    colour, shape = _confused(asked.colour, list(COLOURS), rng), _confused(asked.shape, list(SHAPES), rng)
    return replace(asked, count=asked.count - int(missing), colour=colour, shape=shape)


def _confused(name: str, names: list[str], rng: Rng) -> str:
    others = [other for other in names if other != name]
    return str(rng.choice(others)) if rng.random() < MISTAKE else name


def _departed(asked: Style, rng: Rng) -> Style:
    lost = rng.uniform(max(0, asked.age - 1), min(MOST_LOST, asked.age))
    return Style(asked.age - lost)


def draw(scene: Scene, style: Style, side: int, rng: Rng) -> Image.Image:
    """A clean picture, RGB, side x side pixels."""
    big = side * OVERSAMPLING
    image = Image.new("RGB", (big, big), BACKGROUNDS[scene.background])
    pen = ImageDraw.Draw(image)
    _draw_stripes(pen, BACKGROUNDS[scene.background], style.age, big)
    for x, y in _places(scene.count, rng):
        pen.polygon(_corners(scene.shape, x, y, big), fill=COLOURS[scene.colour])
    image = image.reduce(OVERSAMPLING)
    return Image.blend(image, Image.new("RGB", image.size, (130, 70, 0)), 0.35 * style.age)


def _draw_stripes(pen: ImageDraw.ImageDraw, colour: RGB, age: float, big: int) -> None:
    r, g, b = (round(c * (1 - 0.55 * age)) for c in colour)
    step = big // 12
    for y in range(0, big, step):
        pen.rectangle((0, y, big, y + step // 2), fill=(r, g, b))


def _places(count: int, rng: Rng) -> list[Point]:
    cells = rng.permutation(9)[:count]
    return [(0.25 + 0.25 * (cell % 3), 0.25 + 0.25 * (cell // 3)) for cell in cells.tolist()]


def _corners(shape: str, x: float, y: float, big: int) -> list[Point]:
    number, radius = SHAPES[shape]
    angles = 2 * np.pi * (np.arange(number) + 0.5) / number + np.pi / 2
    return [(big * (x + radius * float(np.cos(a))), big * (y + radius * float(np.sin(a)))) for a in angles]


def spoil(image: Image.Image, amounts: Degradation, rng: Rng) -> Image.Image:
    """The picture torn (glitch), blurred, faded and made noisy, in this order."""
    blurred = _torn(image, amounts.glitch, rng).filter(
        ImageFilter.GaussianBlur(amounts.blur * image.width / 60)
    )
    values = np.asarray(blurred, dtype=np.float32)
    values = values + 0.6 * amounts.fade * (values.mean() - values)
    grain = rng.standard_normal((*values.shape[:2], 1), dtype=np.float32)
    return Image.fromarray((values + 45 * amounts.noise * grain).clip(0, 255).astype(np.uint8))


def _torn(image: Image.Image, glitch: float, rng: Rng) -> Image.Image:
    pixels, side = np.array(image), image.height
    for _ in range(round(16 * glitch)):
        top = int(rng.integers(side - side // 16))
        band = slice(top, top + side // 16)
        pixels[band] = np.roll(pixels[band], int(rng.integers(side // 12, side // 4)), axis=1)
    return Image.fromarray(pixels)


def write_sample(folder: Path, seed: int = 0) -> Path:
    """Write the data set into folder/PKU-AIGIQA-4K and return that path; at once if the same sample is there already.

    Raises:
        SampleError: something else is there.
    """
    final = folder / DATA_SET
    if final.exists():
        _require_same(final, seed)
        return final
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sample-", dir=folder) as temporary:
        _write_all(Path(temporary) / DATA_SET, seed)
        (Path(temporary) / DATA_SET).rename(final)
    return final


def _marker(seed: int) -> dict[str, int]:
    return {"seed": seed, "version": VERSION}


def _require_same(final: Path, seed: int) -> None:
    found = _read_marker(final / MARKER)
    if found != _marker(seed):
        raise SampleError(
            f"{final} exists and is not the sample data set of {_marker(seed)} (its {MARKER}: {found}): "
            "choose another folder, or move it away"
        )


def _read_marker(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_all(root: Path, seed: int) -> None:
    (root / "All").mkdir(parents=True)
    (root / "I2I" / "Image_prompt").mkdir(parents=True)
    pictures = plan(seed)
    for index, picture in enumerate(pictures):
        _write_picture(root, picture, np.random.default_rng((seed, index)))
    table(pictures).to_excel(root / "annotation.xlsx", index=False)
    (root / MARKER).write_text(json.dumps(_marker(seed)), encoding="utf-8")


def _write_picture(root: Path, picture: Picture, rng: Rng) -> None:
    clean = draw(picture.drawn, picture.drawn_style, picture.side, rng)
    spoil(clean, picture.degradation, rng).save(root / "All" / picture.name, quality=90)
    path = root / "I2I" / "Image_prompt" / picture.image_prompt
    if picture.image_prompt and not path.exists():
        draw(picture.asked, picture.asked_style, IMAGE_PROMPT_SIDE, rng).save(path, quality=90)


def table(pictures: list[Picture]) -> pd.DataFrame:
    """The annotation: one line per picture, in the columns of PKU-AIGIQA-4K."""
    return pd.DataFrame(
        {
            "Generated_image": [p.name for p in pictures],
            "Image_prompt": [p.image_prompt or None for p in pictures],
            "Text_prompt": [p.asked.prompt for p in pictures],
            "MOS_q": [p.mos_q for p in pictures],
            "MOS_a": [p.mos_a for p in pictures],
            "MOS_c": [p.mos_c for p in pictures],
        }
    )
