"""Image encoders of users in code: a function of a batch of images, with a name and a version.

A package declares one as an entry point, whose name is the name of the encoder:

    [project.entry-points."tier4k.encoders"]
    mine = "my_package.encoders:MINE"
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tier4k.extract.encoders.names import HF, TIMM, EncoderError
from tier4k.extract.images.preprocessing import Preprocessing
from tier4k.extract.plugins.find import import_object, import_path_of, installed_plugins, is_import_path
from tier4k.extract.weights.files import Weights

if TYPE_CHECKING:
    from torch import Tensor

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # part of the name of a folder

ARCHITECTURE = "function"  # in signatures, before the import path


@dataclass(frozen=True)
class ImageEncoderFunction:
    """An image encoder in code.

    Features are stored under the name and the version: raise the version with every change of a value.

    Attributes:
        name: Name of the encoder: letters, digits, ".", "_" and "-".
        version: Version of the function and its weights, any text.
        function: Returns features (B, D) of a batch of images (B, 3, H, W) float32, preprocessed and
            normalised, on the device that encodes. The features of an image do not depend on the others. A
            torch module is copied to that device, in evaluation mode; another callable moves its own tensors.
        preprocessing: Preprocessing of images, as `image_preprocessing` returns it.
        module: Name of the module that has this object as a global variable, from which other processes and
            later commands import it. The default is the module that makes the object.

    Raises:
        EncoderError: The name, the version, the function or the preprocessing is not valid.
    """

    name: str
    version: str
    function: "Callable[[Tensor], Tensor]" = field(repr=False)
    preprocessing: Preprocessing
    module: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Check the texts, and note the module that makes the object."""
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise EncoderError(
                f"{self.name!r} is not a name of an encoder: use letters, digits, '.', '_' and '-', at most "
                "100 in all"
            )
        if not isinstance(self.version, str) or not self.version.strip():
            raise EncoderError(f"the image encoder {self.name} has no version: pass a text such as '1'")
        if not callable(self.function) or not isinstance(self.preprocessing, Preprocessing):
            raise EncoderError(
                f"the image encoder {self.name} needs a callable as its function, and the preprocessing that "
                "tier4k.image_preprocessing(…) returns"
            )
        if not self.module:
            # As `namedtuple` finds it: frame 1 is __init__, frame 2 calls it.
            caller = sys._getframe(2).f_globals
            object.__setattr__(self, "module", caller.get("__name__", ""))

    @property
    def import_path(self) -> str:
        """Where this object is imported from, `package.module:NAME`; "" if it is no global variable."""
        if self.module == "__main__":  # which is another module in other processes
            return ""
        names = vars(sys.modules[self.module]) if self.module in sys.modules else {}
        for name, value in names.items():
            if isinstance(value, ImageEncoderFunction) and value == self:
                return f"{self.module}:{name}"
        return ""

    @property
    def architecture(self) -> str:
        """The text in signatures, which says that the encoder is a function, and names its import path."""
        return f"{ARCHITECTURE} {self.import_path}".strip()

    @property
    def weights(self) -> Weights:
        """Name and version in the place of weights, for signatures."""
        text = f"{self.name}\n{self.version}"
        path = Path(self.import_path or self.name)
        return Weights(path, sha256(text.encode()).hexdigest(), f"version {self.version}")

    def require_importable(self, reason: str) -> None:
        """Refuse an object that other processes cannot import.

        Raises:
            EncoderError: The object is no global variable of a module.
        """
        if not self.import_path:
            raise EncoderError(
                f"the image encoder {self.name} is no global variable of a module, and {reason}: define it "
                "at the top level of a module that Python can import, not in a function or a notebook"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the import path, not the function."""
        self.require_importable("other processes import it")
        return import_object, (self.import_path,)


def function_at(path: str) -> ImageEncoderFunction:
    """Import an image encoder in code.

    Args:
        path: Import path, `package.module:NAME`.

    Raises:
        EncoderError: The object is no `ImageEncoderFunction`.
        PluginError: The object cannot be imported.
    """
    value = import_object(path)
    if not isinstance(value, ImageEncoderFunction):
        raise EncoderError(
            f"{path} is a {type(value).__name__} and no image encoder: make a tier4k.ImageEncoderFunction of "
            "a function, a name, a version and a preprocessing"
        )
    module = path.partition(":")[0]
    return value if value.import_path else replace(value, module=module)


def function_named(name: str) -> ImageEncoderFunction | None:
    """Return the image encoder in code with a name: an import path, or the name of an entry point.

    Returns:
        The encoder; None if the name is neither.

    Raises:
        EncoderError: The object is no `ImageEncoderFunction`, or its name differs from the entry point's.
        PluginError: The object cannot be imported.
    """
    if name.startswith((HF, TIMM)):
        return None
    if is_import_path(name):
        return function_at(name)
    point = installed_plugins("tier4k.encoders").get(name)
    if point is None:
        return None
    function = function_at(import_path_of(point))
    if function.name != name:
        raise EncoderError(
            f"the entry point {name!r} of tier4k.encoders is the image encoder {function.name!r}: give both "
            "one name, by which stores are found"
        )
    return function


def is_function(architecture: str) -> bool:
    """Return whether the architecture of a signature is that of an image encoder in code."""
    return architecture.partition(" ")[0] == ARCHITECTURE


def recorded_path(architecture: str) -> str:
    """Return the import path in the architecture of a signature; "" if there is none."""
    return architecture.partition(" ")[2]


def trusted_function(
    name: str,
    path: str,
    given: Path | ImageEncoderFunction | None,
) -> ImageEncoderFunction:
    """Return the image encoder in code of a signature.

    A name in a run or a model file is not enough for an import: the user must name the encoder, an installed
    package must declare it as an entry point, or its module must be imported already.

    Args:
        name: Name of the encoder.
        path: Import path in the signature; "" if there is none.
        given: The encoder or its import path, if the user passes one.

    Raises:
        EncoderError: The encoder is not found, or may not be imported.
        PluginError: The object cannot be imported.
    """
    if isinstance(given, ImageEncoderFunction):
        return given
    if given is not None:
        return function_at(str(given))
    if name in installed_plugins("tier4k.encoders") and (function := function_named(name)):
        return function
    if path.partition(":")[0] in sys.modules:
        return function_at(path)
    if not path:
        raise EncoderError(
            f"the image encoder {name} is a function that was no global variable of a module: pass it again "
            "as image_weights=… in Python"
        )
    raise EncoderError(
        f"the image encoder {name} is {path}, which is imported only if you name it: pass --image-weights "
        f"{path} (image_weights=… in Python) if you trust this code"
    )
