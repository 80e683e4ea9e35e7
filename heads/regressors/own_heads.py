"""Heads of users: a class or a factory, named by its import path or by an entry point `tier4k.heads`.

- A regressor class of scikit-learn's conventions, or a function without arguments that returns such a
  regressor, for example a Pipeline: `EstimatorHead` makes it a head.
- A class derived from `BaseHead` is a head already.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from inspect import isclass
from typing import Any, ClassVar, NoReturn

from sklearn.base import is_regressor

from tier4k.cache.text import nearest
from tier4k.extract.plugins.identity import Plugin, import_plugin
from tier4k.heads.regressors.base import BaseHead, Head
from tier4k.heads.regressors.estimator_head import EstimatorHead, foreign_errors
from tier4k.heads.regressors.head_spec import HeadSpec
from tier4k.heads.regressors.literals import literals, parse_literal
from tier4k.heads.regressors.names import GROUP, require_head
from tier4k.heads.regressors.options import (
    HeadError,
    canonical,
    cli_name,
    option_types,
    parse_option,
    require_within,
)

SEED = "random_state"

METHODS = ("fit", "predict", "get_params", "set_params")


@dataclass(frozen=True)
class EstimatorSpec:
    """A head that is made of a user's estimator; see `HeadSpec` for the heads that are classes of heads.

    Attributes:
        name: Name of the head.
        factory: Makes the unfitted estimator with its default options.
        fixed: Empty, because users can set all options.
    """

    name: str
    factory: Callable[[], Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    estimator: ClassVar[type[Head]] = EstimatorHead

    def own_types(self) -> dict[str, Any]:
        """Return the options that every head has, with their types."""
        types = option_types(EstimatorHead)
        return {name: types[name] for name in BaseHead.limits}

    def options(self) -> dict[str, Any]:
        """Return the options that a user can set, with their types: `Any` for those of the estimator."""
        parameters = literals(self._parameters(self.factory()))
        return {**dict.fromkeys(parameters, Any), **self.own_types()}

    def resolve(self, changed: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option but the seeds that the user leaves to the repeat; values may be texts.

        Raises:
            HeadError: There is no such option, or a value is not valid for it.
        """
        estimator = self.factory()
        parameters = literals(self._parameters(estimator))
        chosen: dict[str, Any] = {}
        own: dict[str, Any] = dict.fromkeys(BaseHead.limits, "none")
        for option, value in changed.items():
            # The command line has other names for some options of our heads, but not for those of estimators.
            name = cli_name(option) if cli_name(option) in parameters else option
            if name in own:
                own[name] = parse_option(name, value, self.own_types()[name])
            elif name in parameters:
                chosen[name] = parse_literal(value)
            else:
                self._refuse(name, [*parameters, *map(cli_name, own)])
        require_within(own, BaseHead.limits)
        self._set(estimator, chosen)
        resolved = literals(self._parameters(estimator))
        for name in seeds_of(resolved):
            if resolved[name] is None:
                del resolved[name]
        return {**resolved, **canonical(own, BaseHead.limits)}

    def at_default(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the options that have their default value; 1 and 1.0 are different values."""
        defaults = self.resolve({})
        return tuple(name for name, value in defaults.items() if repr(options.get(name)) == repr(value))

    def make(self, options: Mapping[str, Any] = {}, seed: int | None = None) -> EstimatorHead:
        """Make an unfitted head. Seeds that neither the options nor the estimator set become `seed`."""
        own = {name: value for name, value in options.items() if name in BaseHead.limits}
        estimator = self.factory()
        self._set(estimator, {name: value for name, value in options.items() if name not in own})
        parameters = self._parameters(estimator)
        unset = [name for name in seeds_of(parameters) if parameters[name] is None]
        self._set(estimator, dict.fromkeys(unset, seed))
        return EstimatorHead(self.name, estimator, **own)

    def _parameters(self, estimator: Any) -> dict[str, Any]:
        """Return the values of all parameters of an estimator."""
        action = "say what its parameters are (__init__(self, alpha) must set self.alpha = alpha)"
        with foreign_errors(self.name, action):
            return dict(estimator.get_params())

    def _set(self, estimator: Any, options: Mapping[str, Any]) -> None:
        with foreign_errors(self.name, f"be made with {dict(options)}"):
            estimator.set_params(**options)

    def _refuse(self, name: str, known: Sequence[str]) -> NoReturn:
        raise HeadError(
            f"the {self.name} head has no option {name}{nearest(name, known)}: it has {', '.join(known)}. "
            "What is neither a number, a text, true, false or none can be set in a function of your own "
            "that returns the estimator"
        )


@dataclass(frozen=True)
class OwnHeadSpec(HeadSpec):
    """A user's class of heads.

    Attributes:
        name: Name of the head.
    """

    name: str = ""

    def make(self, options: Mapping[str, Any] = {}, seed: int | None = None) -> Head:
        """Make an unfitted head, see `HeadSpec`."""
        with foreign_errors(self.name, f"be made with {dict(options)}"):
            return super().make(options, seed)

    def restore(
        self,
        weights: Mapping[str, Any],
        options: Mapping[str, Any] = {},
        seed: int | None = None,
    ) -> Head:
        """Restore a fitted head, see `HeadSpec`."""
        with foreign_errors(self.name, "be restored"):
            return super().restore(weights, options, seed)


def seeds_of(parameters: Mapping[str, Any]) -> list[str]:
    """Return the names of the parameters that are seeds of an estimator or of its steps."""
    return [name for name in parameters if name == SEED or name.endswith(f"__{SEED}")]


@dataclass(frozen=True)
class OwnHead:
    """A head of a user.

    Attributes:
        spec: How the head is made.
        plugin: What a run records of the head.
    """

    spec: HeadSpec | EstimatorSpec
    plugin: Plugin


@cache
def own_head(name: str) -> OwnHead:
    """Import a head of a user.

    Raises:
        HeadError: There is no such head, or the object is no regressor.
        PluginError: The object cannot be imported.
    """
    require_head(name)
    value, plugin = import_plugin(name, GROUP)
    if isclass(value) and issubclass(value, BaseHead):
        return OwnHead(OwnHeadSpec(_checked_class(name, value), name=name), plugin)
    spec = EstimatorSpec(name, _factory(name, value))
    spec.factory()  # so that an object that makes no regressor is refused at once
    return OwnHead(spec, plugin)


def trusted_class(path: str) -> HeadSpec:
    """Import a user's class derived from `BaseHead`; the caller has checked that the user trusts the class.

    Raises:
        HeadError: The object is no such class.
        PluginError: The object cannot be imported.
    """
    spec = own_head(path).spec
    if not isinstance(spec, HeadSpec):
        raise HeadError(f"{path} is not derived from tier4k.heads.regressors.base.BaseHead any more")
    return spec


def _factory(name: str, value: Any) -> Callable[[], Any]:
    """Return a function that makes the estimator and checks that it is a regressor."""

    def make() -> Any:
        """Make one estimator."""
        if not callable(value):
            raise HeadError(
                f"the {name} head is an object of type {type(value).__name__}: name a class, or a function "
                "that returns a new regressor"
            )
        with foreign_errors(name, "be made without arguments"):
            made = value()
            lacking = [method for method in METHODS if not hasattr(made, method)]
            fits = not lacking and is_regressor(made)
        if not fits:
            lacks = f"it lacks {', '.join(lacking)}" if lacking else "it does not say that it is a regressor"
            raise HeadError(
                f"the {name} head makes a {type(made).__name__}, which is no regressor of scikit-learn's "
                f"conventions ({lacks}): derive the class from sklearn.base.RegressorMixin and "
                "sklearn.base.BaseEstimator"
            )
        return made

    return make


def _checked_class(name: str, head: type[BaseHead]) -> type[BaseHead]:
    """Return a class derived from `BaseHead`, which must have the options of all heads, with types."""
    try:
        types = option_types(head)
    except (KeyError, NameError, TypeError) as error:
        raise HeadError(
            f"the {name} head has a parameter of __init__ without a type ({error}): annotate all of them"
        ) from error
    missing = [option for option in BaseHead.limits if option not in types]
    if missing or not hasattr(head, "averages_crops"):
        raise HeadError(
            f"the {name} head is derived from BaseHead, and lacks "
            f"{', '.join(missing) or 'the class attribute averages_crops'}: see docs/adding/head.md"
        )
    return head
