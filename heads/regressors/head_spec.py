"""What the name of a head stands for: an estimator class and fixed options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.options import option_types


@dataclass(frozen=True)
class HeadSpec:
    """The estimator class and the fixed options of a head's name.

    Attributes:
        estimator: Class of the head.
        fixed: Options that the name fixes; users cannot set them.
    """

    estimator: type[Head]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def make(self, options: Mapping[str, Any] = {}, seed: int | None = None) -> Head:
        """Make an unfitted head; only heads that draw random numbers use the seed."""
        return self.estimator(**self._parameters(options, seed))

    def restore(
        self,
        weights: Mapping[str, Any],
        options: Mapping[str, Any] = {},
        seed: int | None = None,
    ) -> Head:
        """Restore a fitted head from its weights, options and seed."""
        return self.estimator.from_weights(weights, **self._parameters(options, seed))

    def options(self) -> dict[str, Any]:
        """Return the options that a user can set, with their types."""
        types = option_types(self.estimator)
        for name in self.fixed:
            types.pop(name, None)
        return types

    @property
    def trains_with_validation(self) -> bool:
        """Whether the head with its default options is trained with validation rows."""
        return self.estimator().get_params().get("validation_fraction", 0) > 0

    def _parameters(self, options: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
        parameters = {**options, **self.fixed}
        if "random_state" in self.estimator().get_params():
            parameters["random_state"] = seed
        return parameters
