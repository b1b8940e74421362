"""What a family is: a torch module with the capabilities that it honestly has.

Capabilities are small protocols; ``capabilities(model)`` reads them off the class. A family lives in one file,
registers itself under a name, and is found by walking this package: nothing else needs to know of it.
"""

from __future__ import annotations

import copy
import importlib
import pkgutil
from collections.abc import Callable, Container
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from contract.capabilities import Capability
from contract.programs import OutputError, ProgramInput
from contract.support import Support
from models.protocols import Bakes, HasBound

__all__ = [
    "GenerativeModel",
    "capabilities",
    "family",
    "has_bound",
    "register",
    "registry",
]


class GenerativeModel(nn.Module):
    """Base of every family.

    Subclasses take ``(support, **hyper_parameters)``, keyword-only and plain data, so that a recipe can name them
    and a checkpoint can hold them. Whatever is learnt from data without gradients (means, scales) is a buffer set by
    ``prepare``, so that it is saved, exported and restored like a weight.

    Raises:
        ValueError: the family cannot model this support; the message says why.
    """

    refusals: ClassVar[dict[Capability, str]] = {}
    """Why each capability that the family lacks is absent, in the field's own terms."""

    decode_undoes_encode: ClassVar[bool] = True
    """Whether the row of a row's code is that row, where the model has both; an autoencoder gives one like it."""

    contains_training_rows: ClassVar[bool] = False
    """Whether training rows are among the fitted parameters, so that whoever has the bundle has them."""

    def __init__(self, support: Support):
        super().__init__()
        reason = self.accepts(support)
        if reason is not None:
            raise ValueError(f"{type(self).__name__} cannot model this support: {reason}")
        self.support = support

    @property
    def lacks(self) -> dict[Capability, str]:
        """What this model cannot do though its family can, and why: a model without labels cannot name one."""
        return {}

    @property
    def conditions(self) -> tuple[ProgramInput, ...]:
        """What the model can be conditioned on, one input each; their values follow the data in every method."""
        return ()

    @property
    def known_shape(self) -> tuple[int, ...]:
        """Shape per row of what says which coordinates are known; a picture's, where pixels are known whole or not."""
        return self.support.shape

    @property
    def log_prob_error(self) -> OutputError | None:
        """The error that all log-probabilities of an ``estimate`` share, once the model is fitted."""
        return None

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None if the family can model this support, else the reason in words."""
        raise NotImplementedError(f"{cls.__name__} must say which supports it accepts")

    def prepare(self, x: Tensor) -> None:
        """Set what depends on the training fold alone (means, scales), before training; x [n, *shape], original units.

        Raises:
            ValueError: the family cannot honestly describe this fold, for example for a constant column.
        """

    def prepare_labels(self, labels: Tensor) -> None:
        """Set what depends on the training fold's labels alone, int64 [n], of a model that is conditional on them."""

    def baked(self) -> Self:
        """A copy in eval mode for export: each layer that recomputes its weights (a mask) has them computed once."""
        model = copy.deepcopy(self).eval().requires_grad_(False)
        for module in model.modules():
            if isinstance(module, Bakes):
                module.bake()
        return model


def has_bound(model: GenerativeModel) -> bool:
    """Whether a model's log-probability is the bound, and not its ``log_prob``."""
    return isinstance(model, HasBound) and getattr(model, "log_prob_kind", "lower_bound") == "lower_bound"


def capabilities(model: GenerativeModel | type[GenerativeModel]) -> tuple[Capability, ...]:
    """The capabilities that a family, or a model of it, has by itself; ``score`` comes with a calibration."""
    cls = model if isinstance(model, type) else type(model)
    has = {
        "sample": hasattr(cls, "sample")
        or hasattr(cls, "sample_step")
        or (hasattr(cls, "latent") and hasattr(cls, "decode")),
        "latent": hasattr(cls, "latent"),
        "decode": hasattr(cls, "decode"),
        "encode": hasattr(cls, "encode"),
        "log_prob": hasattr(cls, "log_prob") or hasattr(cls, "log_weight"),
        "classify": hasattr(cls, "classify"),
        "marginal": hasattr(cls, "marginal"),
        "inpaint": hasattr(cls, "inpaint") or hasattr(cls, "inpaint_init"),
    }
    lacks: Container[str] = () if isinstance(model, type) else model.lacks
    return tuple(name for name, present in has.items() if present and name not in lacks)  # type: ignore[misc]


_REGISTRY: dict[str, type[GenerativeModel]] = {}


def register(name: str) -> Callable[[type[Any]], type[Any]]:
    """Class decorator: make a family known under a name, as recipes and manifests write it."""

    def add(cls: type[Any]) -> type[Any]:
        if name in _REGISTRY:
            raise ValueError(f"two families are called {name!r}")
        _REGISTRY[name] = cls
        return cls

    return add


def registry() -> dict[str, type[GenerativeModel]]:
    """Every family by name. Imports each module of this package once."""
    import models

    for module in pkgutil.iter_modules(models.__path__):
        importlib.import_module(f"models.{module.name}")
    return dict(sorted(_REGISTRY.items()))


def family(name: str) -> type[GenerativeModel]:
    """The family of that name.

    Raises:
        KeyError: there is none; the message lists those that are.
    """
    known = registry()
    if name not in known:
        raise KeyError(f"unknown family {name!r}; known: {', '.join(known)}")
    return known[name]
