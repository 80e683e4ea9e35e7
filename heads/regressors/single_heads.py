"""Heads by name. Add new heads to this module.

1. Write an estimator with the protocol `tier4k.heads.regressors.base.Head`; `ridge.py` is a short example.
   Derive it from `BaseHead` and give its options `limits`.
2. Add the name of the head to `tier4k.heads.regressors.choices.HeadName`, which the help lists.
3. Add one entry to `SINGLE_HEADS` below.

Options of the command line, sweeps, runs, the ensemble and the tests of all heads read that entry.
`tier4k.heads.regressors.registry` adds the ensemble, which is made of these heads, and has the functions that
runs call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.kernel import KernelRidgeHead, SVRHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.options import option_types
from tier4k.heads.regressors.ridge import RidgeHead


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


SINGLE_HEADS: dict[str, HeadSpec] = {
    "mlp": HeadSpec(MLPHead),
    "gated": HeadSpec(MLPHead, {"fusion": "gated"}),
    "bilinear": HeadSpec(MLPHead, {"fusion": "bilinear"}),
    "ridge": HeadSpec(RidgeHead),
    "kernel-ridge": HeadSpec(KernelRidgeHead),
    "svr": HeadSpec(SVRHead),
}
