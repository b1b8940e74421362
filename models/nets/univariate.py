"""Laws of one number, for some columns at a time: maximum-likelihood fit, log-probability, distribution, quantile.

Each takes and gives float64 [n, c], one law a column. ``code`` is the probability integral transform: F(x) of a
continuous law, and of one with steps the middle of its step, (F(x - 1) + F(x)) / 2, so that ``quantile`` gives back x.
Upper tails end where 1 - F(x) falls below the spacing of doubles, 1e-16.
"""

from __future__ import annotations

from math import inf, log, pi

import numpy as np
import torch
from torch import Tensor, nn

from models.nets.inversion import invert_steps
from models.nets.lanes import full_lanes
from models.nets.normal import normal_cdf, normal_quantile
from models.nets.sized import SizedByData

__all__ = ["NormalLaws", "PoissonLaws", "WeibullLaws", "log_factorial"]

_FARTHEST = 1e100
_LARGEST_EXPONENT = 690.0
_LEAST = 1e-300
_MOST_MEAN = 1e6


class NormalLaws(nn.Module):
    """N(m, s^2): m and s^2 are the sample's, by 1/n."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, columns: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("deviation", torch.zeros(columns, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """x float64 [n, c], no column constant."""
        self.mean.copy_(x.mean(dim=0))
        self.deviation.copy_(x.std(dim=0, correction=0))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density: [n, c] -> [n, c]."""
        z = ((x - self.mean) / self.deviation).clamp(-_FARTHEST, _FARTHEST)
        return -0.5 * z.square() - self.deviation.log() - 0.5 * log(2.0 * pi)

    def code(self, x: Tensor) -> Tensor:
        """F(x): [n, c] -> [n, c]."""
        return normal_cdf((x - self.mean) / self.deviation)

    def quantile(self, u: Tensor) -> Tensor:
        """F^-1(u), u in (0, 1): [n, c] -> [n, c]."""
        return self.mean + self.deviation * normal_quantile(u)


class WeibullLaws(nn.Module):
    """F(x) = 1 - exp(-(x / b)^k) for x > 0 (W. Weibull, 1951), in SciPy's terms weibull_min(k, scale=b).

    The likelihood's maximum is where sum x^k log x / sum x^k - 1/k = mean log x, and b^k = mean x^k.
    """

    shape: Tensor
    log_scale: Tensor

    def __init__(self, columns: int):
        super().__init__()
        self.register_buffer("shape", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("log_scale", torch.zeros(columns, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """x float64 [n, c], above 0, no column constant."""
        from scipy.optimize import brentq
        from scipy.special import softmax

        for column in range(x.shape[1]):
            logs = x[:, column].log().numpy()
            centre = float(logs.mean())
            y = logs - centre

            def slope(k: float, y: np.ndarray = y) -> float:
                # It rises with k, from minus infinity to the largest y: there is one root.
                return float(softmax(k * y) @ y) - 1.0 / k

            low = high = 1.0 / float(y.std())
            while slope(low) > 0.0:
                low /= 2.0
            while slope(high) < 0.0:
                high *= 2.0
            k = low if low == high else brentq(slope, low, high, xtol=1e-300, rtol=1e-14)
            self.shape[column] = k
            largest = float(y.max())
            self.log_scale[column] = centre + largest + log(float(np.exp(k * (y - largest)).mean())) / k

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density, -inf at 0 and below: [n, c] -> [n, c]."""
        inside = x > 0.0
        logs = self._logs(x)
        power = full_lanes(torch.exp, (self.shape * logs).clamp(max=_LARGEST_EXPONENT))
        value = self.shape.log() - self.log_scale + (self.shape - 1.0) * logs - power
        return torch.where(inside, value, torch.full_like(value, -inf))

    def code(self, x: Tensor) -> Tensor:
        """F(x): [n, c] -> [n, c]."""
        power = full_lanes(torch.exp, (self.shape * self._logs(x)).clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT))
        # 1 - exp(-p) without cancelling where p is small.
        half = full_lanes(torch.tanh, 0.5 * power)
        return torch.where(x > 0.0, 2.0 * half / (1.0 + half), torch.zeros_like(power))

    def quantile(self, u: Tensor) -> Tensor:
        """F^-1(u), u in (0, 1): [n, c] -> [n, c]."""
        rest = 1.0 - u
        # -log(1 - u) = u log(w) / (w - 1) with w = 1 - u as rounded (W. Kahan), since log near 1 loses what u has.
        short = torch.where(rest < 1.0, rest - 1.0, torch.full_like(rest, -1.0))
        power = torch.where(rest < 1.0, u * full_lanes(torch.log, rest) / short, u)
        logs = full_lanes(torch.log, power) / self.shape + self.log_scale
        return full_lanes(torch.exp, logs.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT))

    def _logs(self, x: Tensor) -> Tensor:
        return full_lanes(torch.log, x.clamp(min=_LEAST)) - self.log_scale


class PoissonLaws(SizedByData):
    """P(x) = m^x exp(-m) / x!, x = 0, 1, 2 ...; m is the sample's mean. F is a table of all that is not 0 or 1."""

    mean: Tensor
    first: Tensor
    table: Tensor

    def __init__(self, columns: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("first", torch.zeros(columns, dtype=torch.float64))
        self.register_buffer("table", torch.zeros(columns, 0, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """x float64 [n, c], whole numbers of 0 or more.

        Raises:
            ValueError: a mean is above a million.
        """
        from scipy.stats import poisson

        mean = x.mean(dim=0)
        if float(mean.max()) > _MOST_MEAN:
            raise ValueError(
                f"a mean of {float(mean.max()):g} is above {_MOST_MEAN:g}: a Poisson law is then a normal law to a "
                "part in a thousand, and the column better declared real"
            )
        reach = 12.0 * mean.sqrt() + 40.0  # beyond it less than 1e-17 is left on either side
        first = (mean - reach).floor().clamp(min=0.0)
        values = first[:, None] + torch.arange(int((mean + reach - first).max()) + 1)  # [c, L]
        self.mean.copy_(mean)
        self.first = first - 1.0
        # Begins at the value before the first.
        whole = np.concatenate([first.numpy()[:, None] - 1.0, values.numpy()], axis=1)
        self.table = torch.from_numpy(poisson.cdf(whole, mean.numpy()[:, None]))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability: [n, c] -> [n, c]."""
        return x * self.mean.log() - self.mean - log_factorial(x)

    def code(self, x: Tensor) -> Tensor:
        """(F(x - 1) + F(x)) / 2: [n, c] -> [n, c]."""
        last = self.table.shape[1] - 1
        place = x - self.first  # of F(x); F(x - 1) is before it
        at = place.clamp(1.0, float(last)).long()  # [n, c]
        flat = self.table.reshape(-1)
        start = torch.arange(self.table.shape[0]) * (last + 1)
        below, upto = (
            flat.index_select(0, (start + at - back).reshape(-1)).reshape(-1, self.table.shape[0]) for back in (1, 0)
        )
        middle = torch.where(place < 1.0, torch.zeros_like(below), 0.5 * (below + upto))
        return torch.where(place > last, torch.ones_like(middle), middle)

    def quantile(self, u: Tensor) -> Tensor:
        """The least x with F(x) > u, u in (0, 1): [n, c] -> [n, c]."""
        return self.first + 1.0 + invert_steps(self.table[:, 1:], u).double()


def log_factorial(x: Tensor) -> Tensor:
    """log x! for whole numbers x of 0 or more: float64 [n, c] -> [n, c].

    Stirling's series at x + 9, and down again by x! = (x + 8)! / (x + 1) ... (x + 8); graphs have no log-gamma.

    Example:
        >>> [round(v, 12) for v in log_factorial(torch.tensor([[0.0, 1.0, 5.0]]).double()).exp()[0].tolist()]
        [1.0, 1.0, 120.0]
    """
    y = x.clamp(max=1e30) + 9.0
    product = x.clamp(max=1e30) + 1.0
    for step in range(2, 9):
        product = product * (x.clamp(max=1e30) + step)
    z = 1.0 / y.square()
    # The series' next term is 1/156 y^-13, less than 3e-15 from y = 9 on.
    series = 1.0 / 12.0 - z * (
        1.0 / 360.0 - z * (1.0 / 1260.0 - z * (1.0 / 1680.0 - z * (1.0 / 1188.0 - z * (691.0 / 360360.0))))
    )
    stirling = (y - 0.5) * full_lanes(torch.log, y) - y + 0.5 * log(2.0 * pi) + series / y
    return stirling - full_lanes(torch.log, product)
