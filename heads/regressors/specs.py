"""Single heads by name; `tier4k.heads.regressors.registry` has them and those that are made of others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tier4k.heads.regressors.base import Head
from tier4k.heads.regressors.kernel import KernelRidgeHead, SVRHead
from tier4k.heads.regressors.mlp.estimator import MLPHead
from tier4k.heads.regressors.options import option_kinds
from tier4k.heads.regressors.ridge import RidgeHead


@dataclass(frozen=True)
class HeadSpec:
    """A head by its name: an estimator, and what the name says of its options."""

    estimator: type[Head]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def make(self, options: Mapping[str, Any] = {}, seed: int | None = None) -> Head:
        """An unfitted head; the seed goes to heads that draw random numbers."""
        return self.estimator(**self._all(options, seed))

    def restore(
        self, weights: Mapping[str, Any], options: Mapping[str, Any] = {}, seed: int | None = None
    ) -> Head:
        """The head that `make` made and that was fitted to these weights."""
        return self.estimator.from_weights(weights, **self._all(options, seed))

    def options(self) -> dict[str, Any]:
        """The options that a user may give, with their types."""
        return {
            option: type_
            for option, type_ in option_kinds(self.estimator).items()
            if option not in self.fixed
        }

    @property
    def parts_text(self) -> bool:
        """Whether it must be told where the text ends in the fused vector."""
        return "fusion" in self.fixed

    def _all(self, options: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
        known = self.estimator().get_params()
        given = {**options, **self.fixed, "random_state": seed}
        return {name: value for name, value in given.items() if name != "random_state" or name in known}


SINGLE: dict[str, HeadSpec] = {
    "mlp": HeadSpec(MLPHead),
    "gated": HeadSpec(MLPHead, {"fusion": "gated"}),
    "bilinear": HeadSpec(MLPHead, {"fusion": "bilinear"}),
    "ridge": HeadSpec(RidgeHead),
    "kernel-ridge": HeadSpec(KernelRidgeHead),
    "svr": HeadSpec(SVRHead),
}
