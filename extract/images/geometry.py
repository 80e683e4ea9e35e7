"""Geometry of a preprocessed image: its size after the resize, and the part that is cut out of it."""

from dataclasses import dataclass

BLACK = (0, 0, 0)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Geometry:
    """How an image is resized and cropped.

    Attributes:
        width, height: Size after the resize in pixels.
        box: Left, top, right and bottom of the crop in the resized image. It may reach outside.
        fill: Red, green and blue of the pixels of the crop that are outside.
    """

    width: int
    height: int
    box: Box
    fill: tuple[int, int, int] = BLACK

    @property
    def crop_size(self) -> tuple[int, int]:
        """Width and height of the crop."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    @property
    def inside(self) -> Box:
        """The part of the box that is inside the resized image."""
        left, top, right, bottom = self.box
        return max(left, 0), max(top, 0), min(right, self.width), min(bottom, self.height)


def whole(width: int, height: int) -> Geometry:
    """Return the geometry of an image that is resized to this size and not cropped."""
    return Geometry(width, height, (0, 0, width, height))


def centred(
    width: int,
    height: int,
    side: int,
    fill: tuple[int, int, int] = BLACK,
) -> Geometry:
    """Return the geometry of a square crop at the centre, as timm and torchvision place it.

    Args:
        width, height: Size after the resize in pixels.
        side: Side of the crop in pixels.
        fill: Colour beside a smaller image.
    """
    left, top = _centred_edge(width, side), _centred_edge(height, side)
    return Geometry(width, height, (left, top, left + side, top + side), fill)


def _centred_edge(length: int, side: int) -> int:
    """Return the first pixel of a crop: of an odd margin, half a pixel is rounded to the even number.

    Beside a smaller image, the smaller half of an odd margin is in front.
    """
    if length < side:
        return -((side - length) // 2)
    return round((length - side) / 2)


def floor_centred(
    width: int,
    height: int,
    side: int,
) -> Geometry:
    """Return the geometry of a square crop at the centre with margins rounded down, as Hugging Face crops.

    Args:
        width, height: Size after the resize in pixels.
        side: Side of the crop in pixels.
    """
    left, top = (width - side) // 2, (height - side) // 2
    return Geometry(width, height, (left, top, left + side, top + side))
