"""Independent columns, each with a law of two parameters or one, fitted by maximum likelihood.

    log p(x) = sum_d log f_d(x_d),    f_d normal, Weibull or Poisson

(R. A. Fisher, "On the mathematical foundations of theoretical statistics", 1922; the laws' parametrisations are
SciPy's). A recipe may say which column has which law; otherwise a real column is normal, a positive one Weibull and a
count Poisson. Where columns depend on each other, this family says by how much others gain from that; a normal law
with a full covariance is the family ``gaussian``.

The code is the probability integral transform u_d = F_d(x_d), uniform if the law is right; of a count it is the middle
of its step, (F(x - 1) + F(x)) / 2. A draw is the quantile of uniforms, x_d = F_d^-1(u_d), and so is decoding: it gives
back the row of a row's code. Many codes of a count decode to it, so that the way from codes to rows and back ends at
the middle.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> columns = (Column(name="length", kind="real", base_measure="lebesgue"),
    ...            Column(name="calls", kind="count", base_measure="counting"))
    >>> model = Parametric(Support(shape=(2,), columns=columns))
    >>> model.fit(torch.tensor([[-1.0, 1.0], [1.0, 3.0]], dtype=torch.float64))
    >>> x = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    >>> round(model.log_prob(x).exp().item(), 6)  # 1 / sqrt(2 pi) times 2 exp(-2)
    0.107982
    >>> model.decode(model.encode(x)).tolist()
    [[0.0, 2.0]]
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from contract.capabilities import Capability, NumberKind
from contract.programs import ProgramInput
from contract.randomness import Stream
from contract.support import Column, Support
from models.base import GenerativeModel, register
from models.nets.inversion import inside, open_uniform, uniform_log_prob
from models.nets.lanes import row_sum
from models.nets.tabular import refuse_coarse_columns
from models.nets.univariate import NormalLaws, PoissonLaws, WeibullLaws

__all__ = ["Law", "Parametric"]

Law = Literal["gaussian", "weibull", "poisson"]

_LAWS: dict[Law, type[nn.Module]] = {"gaussian": NormalLaws, "weibull": WeibullLaws, "poisson": PoissonLaws}
# Which laws a column of each kind may have, the usual one first.
_OF_KIND: dict[str, tuple[Law, ...]] = {
    "real": ("gaussian", "weibull"),
    "positive": ("weibull",),
    "count": ("poisson",),
}


@register("parametric")
class Parametric(GenerativeModel):
    """Independent normal, Weibull and Poisson columns.

    Args:
        support: real and positive columns and counts, none of which may be missing.
        laws: ``gaussian``, ``weibull`` or ``poisson`` by the column's name; the usual one of its kind where not named.

    Raises:
        ValueError: the support is not of that kind, or a law is not one of the column's kind.
    """

    refusals: ClassVar[dict[Capability, str]] = {
        "classify": "one law describes all rows: it knows no labels that a row could have",
    }
    log_prob_kind: ClassVar[NumberKind] = "exact"
    code_description: ClassVar[str] = (
        "probability integral transform, F(x) of each column; of a count the middle of its step, (F(x - 1) + F(x)) / 2"
    )
    latent_parameters: ClassVar[tuple[ProgramInput, ...]] = ()

    def __init__(self, support: Support, *, laws: dict[str, Law] | None = None):
        super().__init__(support)
        assert support.columns is not None
        named = dict(laws or {})
        chosen = [_law_of(column, named.pop(column.name, None)) for column in support.columns]
        if named:
            raise ValueError(f"laws: there is no column {next(iter(named))!r}")
        self.laws = nn.ModuleDict()
        self.places: dict[str, list[int]] = {}
        for name, cls in _LAWS.items():
            places = [i for i, law in enumerate(chosen) if law == name]
            if places:
                self.laws[name] = cls(len(places))
                self.places[name] = places
        # Where each column is once those of one law stand together.
        together = [place for places in self.places.values() for place in places]
        self.back = [together.index(i) for i in range(support.size)]

    @classmethod
    def accepts(cls, support: Support) -> str | None:
        """None for real and positive columns and counts without missing values, else the reason in words."""
        if support.columns is None:
            return "the support is not a table: its coordinates have no columns of their own"
        for column in support.columns:
            if column.missing_allowed:
                return f"column {column.name!r} may be missing, and this family has no probability of that"
            if column.kind not in _OF_KIND:
                return f"column {column.name!r} is {column.kind}, which is none of normal, Weibull and Poisson"
        return None

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(d,)."""
        return self.support.shape

    def fit(self, x: Tensor) -> None:
        """Maximise the likelihood of x [n, d].

        Raises:
            ValueError: a column is constant or too coarsely rounded, or holds what its law does not allow.
        """
        rows = x.double()
        low, high = rows.aminmax(dim=0)
        for i, column in enumerate(self.support.columns or ()):
            if column.kind != "count" and bool(low[i] == high[i]):
                raise ValueError(f"column {column.name!r} is constant: it has no density, and belongs left out")
            if column.kind == "count" and not bool(high[i] > 0):
                raise ValueError(f"column {column.name!r} is 0 in every training row: it belongs left out")
            if i in self.places.get("weibull", ()) and not bool(low[i] > 0):
                raise ValueError(f"column {column.name!r} is not above 0 everywhere, as a Weibull law's values are")
        refuse_coarse_columns(self.support, rows)
        for name, law in self.laws.items():
            _typed(law).fit(rows[:, self.places[name]])

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats of the original units: x float64 [n, d] -> float64 [n]."""
        return row_sum(self._by_law("log_prob", x))

    def encode(self, x: Tensor) -> Tensor:
        """The probability integral transform: x float64 [n, d] -> u float64 [n, d]."""
        return self._by_law("code", x)

    def decode(self, z: Tensor) -> Tensor:
        """Quantiles; probabilities outside (0, 1) count as its ends: u float64 [n, d] -> x float64 [n, d]."""
        return self._by_law("quantile", inside(z))

    def latent(self, seed: Tensor, row: Tensor, *parameters: Tensor) -> Tensor:
        """Draw codes, independent uniforms on (0, 1): seed, row int64 [n] -> u float64 [n, d]."""
        return open_uniform(seed, row, Stream.LATENT, dims=self.support.size)

    def latent_log_prob(self, z: Tensor) -> Tensor:
        """0 where all of u is in (0, 1), else -inf: float64 [n, d] -> float64 [n]."""
        return uniform_log_prob(z)

    def marginal(self, x: Tensor, known: Tensor) -> Tensor:
        """log p(known columns of x), exact, in nats: x float64 [n, d], known bool [n, d] -> float64 [n]."""
        terms = self._by_law("log_prob", x)
        return row_sum(torch.where(known, terms, torch.zeros_like(terms)))

    def inpaint(self, x: Tensor, known: Tensor, seed: Tensor, row: Tensor) -> Tensor:
        """Draw what is not known of x: x float64 [n, d], known bool [n, d], addresses int64 [n]."""
        return torch.where(known, x, self.decode(self.latent(seed, row)))

    def _by_law(self, method: str, x: Tensor) -> Tensor:
        parts = [
            getattr(law, method)(x.index_select(1, torch.tensor(self.places[name]))) for name, law in self.laws.items()
        ]
        return torch.cat(parts, dim=1).index_select(1, torch.tensor(self.back))


def _law_of(column: Column, named: Law | None) -> Law:
    allowed = _OF_KIND[column.kind]
    if named is not None and named not in allowed:
        raise ValueError(f"laws: {column.name!r} is {column.kind}, of which the law may be {' or '.join(allowed)}")
    return named or allowed[0]


def _typed(law: nn.Module) -> Any:
    return law
