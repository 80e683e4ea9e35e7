"""The levels of multilevel features that a head uses, for each of its image encoders.

A text such as "3,4" selects levels of every image encoder, "clip=3,4" those of one encoder. A run records the
names of the levels: "stage3" with one image encoder, "clip=stage3" with several.
"""

from collections.abc import Mapping, Sequence

from tier4k.cache.signature import Signature
from tier4k.extract.encoders.levels import Levels, LevelsError, parse_level_names
from tier4k.heads.data.encoder_names import sized_encoder


def resolve_stages(texts: Sequence[str], images: Mapping[str, Signature]) -> tuple[str, ...]:
    """Return the names of the selected levels as a run records them; empty for all levels.

    Args:
        texts: Selections such as "3,4", "all" or "clip=3,4"; those of one encoder are joined.
        images: Signatures of the image features by the name of the array.

    Raises:
        LevelsError: There is no such encoder or level, or features have no levels.
    """
    selected: dict[str, list[str]] = {}
    for text in texts:
        encoder, _, levels = text.rpartition("=")
        for name in _arrays(encoder, images):
            selected.setdefault(name, []).extend(parse_level_names(levels))
    stages: list[str] = []
    for name, signature in images.items():
        if selected.get(name):
            start = "" if len(images) == 1 else f"{name}="
            levels_of_name = Levels.parse(signature.feature).named(selected[name])
            stages.extend(start + level for level in levels_of_name)
    return tuple(stages)


def levels_of(
    stages: Sequence[str],
    name: str,
    encoders: int,
) -> tuple[str, ...]:
    """Return the names of the levels of one encoder's features that are used; empty for all levels.

    Args:
        stages: Names of levels as `resolve_stages` returns them.
        name: Name of the encoder's array.
        encoders: Number of image encoders.
    """
    if encoders == 1:
        return tuple(stages)
    start = f"{name}="
    return tuple(stage.removeprefix(start) for stage in stages if stage.startswith(start))


def _arrays(encoder: str, images: Mapping[str, Signature]) -> list[str]:
    """Return the names of the arrays that a selection is for; "" selects all.

    An encoder is named as --image-encoder names it. "clip" is the encoder without a size if there is one, or
    else all its sizes.
    """
    if not encoder:
        return list(images)
    sized = [name for name, signature in images.items() if encoder in (name, sized_encoder(signature))]
    names = sized or [name for name, signature in images.items() if encoder == signature.encoder]
    if not names:
        raise LevelsError(
            f"--stages: there is no image encoder {encoder!r}: pass one of "
            f"{', '.join(map(sized_encoder, images.values())) or 'none'}"
        )
    return names
