"""Drawing a scene of the sample in a style, without any degradation."""

import numpy as np
from numpy.random import Generator as Rng
from PIL import Image, ImageDraw

from tier4k.extract.datasets.sample.scenes import BACKGROUNDS, COLOURS, RGB, SHAPES, Scene, Style

Point = tuple[float, float]

OVERSAMPLING = 2

OLD_PAPER: RGB = (130, 70, 0)

STRIPES = 12


def draw(
    scene: Scene,
    style: Style,
    side: int,
    rng: Rng,
) -> Image.Image:
    """A clean image, RGB, side x side pixels."""
    large_side = side * OVERSAMPLING
    background = BACKGROUNDS[scene.background]
    image = Image.new("RGB", (large_side, large_side), background)
    pen = ImageDraw.Draw(image)
    _draw_stripes(pen, background, style.age, large_side)
    for x, y in _random_places(scene.count, rng):
        pen.polygon(_corners(scene.shape, x, y, large_side), fill=COLOURS[scene.colour])
    image = image.reduce(OVERSAMPLING)
    paper = Image.new("RGB", image.size, OLD_PAPER)
    return Image.blend(image, paper, 0.35 * style.age)


def _draw_stripes(
    pen: ImageDraw.ImageDraw,
    background: RGB,
    age: float,
    side: int,
) -> None:
    red, green, blue = (round(value * (1 - 0.55 * age)) for value in background)
    step = side // STRIPES
    for y in range(0, side, step):
        pen.rectangle((0, y, side, y + step // 2), fill=(red, green, blue))


def _random_places(count: int, rng: Rng) -> list[Point]:
    """Centres of distinct cells of a 3 x 3 grid, in sides of the image."""
    cells = rng.permutation(9)[:count]
    places = []
    for cell in cells.tolist():
        row, column = divmod(cell, 3)
        places.append((0.25 + 0.25 * column, 0.25 + 0.25 * row))
    return places


def _corners(
    shape: str,
    x: float,
    y: float,
    side: int,
) -> list[Point]:
    number, radius = SHAPES[shape]
    angles = 2 * np.pi * (np.arange(number) + 0.5) / number + np.pi / 2
    corners = []
    for angle in angles:
        corner_x = x + radius * float(np.cos(angle))
        corner_y = y + radius * float(np.sin(angle))
        corners.append((side * corner_x, side * corner_y))
    return corners
