"""The standard normal's distribution function and its inverse, in double, out of what graphs can compute.

ONNX has erf in single precision alone, and no inverse of it. Distribution: S. L. Moshier's rational approximations of
erf and erfc (Cephes Mathematical Library, 1989; after W. J. Cody, "Rational Chebyshev approximation for the error
function", 1969). Quantile: M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", 1988.
Both keep fourteen digits, of small probabilities too.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from models.nets.lanes import full_lanes

__all__ = ["normal_cdf", "normal_quantile"]

# fmt: off
# erf(a) = a T(a^2) / U(a^2) up to 1; erfc(a) = exp(-a^2) P(a) / Q(a) from 1 to 8, and R(a) / S(a) in its place beyond.
_T = (9.60497373987051638749e0, 9.00260197203842689217e1, 2.23200534594684319226e3, 7.00332514112805075473e3,
      5.55923013010394962768e4)
_U = (1.0, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3, 2.26290000613890934246e4,
      4.92673942608635921086e4)
_P = (2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687e0, 4.86371970985681366614e1,
      1.96520832956077098242e2, 5.26445194995477358631e2, 9.34528527171957607540e2, 1.02755188689515710272e3,
      5.57535335369399327526e2)
_Q = (1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2, 9.75708501743205489753e2,
      1.82390916687909736289e3, 2.24633760818710981792e3, 1.65666309194161350182e3, 5.57535340817727675546e2)
_R = (5.64189583547755073984e-1, 1.27536670759978104416e0, 5.01905042251180477414e0, 6.16021097993053585195e0,
      7.40974269950448939160e0, 2.97886665372100240670e0)
_S = (1.0, 2.26052863220117276590e0, 9.39603524938001434673e0, 1.20489539808096656605e1, 1.70814450747565897222e1,
      9.60896809063285878198e0, 3.36907645100081516050e0)

# z = q A(r) / B(r), r = 0.180625 - q^2, where q = u - 1/2 is at most 0.425 in size; of r = sqrt(-log min(u, 1 - u)),
# C / D at r - 1.6 up to 5, and E / F at r - 5 beyond.
_A = (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
      1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0)
_B = (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
      5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0)
_C = (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
      3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0)
_D = (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
      6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0)
_E = (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
      2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0)
_F = (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
      1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0)
# fmt: on

_FARTHEST = 40.0  # beyond this the smaller probability is below the least double


def normal_cdf(z: Tensor) -> Tensor:
    """P(Z <= z) of a standard normal Z: float64 [..., d] -> float64 [..., d].

    Example:
        >>> [f"{p:.12g}" for p in normal_cdf(torch.tensor([[-10.0, 0.0, 1.0]]).double())[0].tolist()]
        ['7.61985302416e-24', '0.5', '0.841344746069']
    """
    return full_lanes(_cdf, z)


def normal_quantile(u: Tensor) -> Tensor:
    """The z with P(Z <= z) = u: float64 in (0, 1), [..., d] -> float64 [..., d].

    Example:
        >>> [f"{z:.12g}" for z in normal_quantile(torch.tensor([1e-300, 0.5, 0.975], dtype=torch.float64)).tolist()]
        ['-37.0470962994', '0', '1.95996398454']
    """
    # 1/2 in the spare lanes, of which the logarithm is finite.
    return full_lanes(lambda v: _quantile(torch.where(v < 1.0, v, torch.full_like(v, 0.5))), u)


def _cdf(z: Tensor) -> Tensor:
    a = z.clamp(-_FARTHEST, _FARTHEST) * sqrt(0.5)
    size = a.abs()
    # Each formula where it holds, and elsewhere at the nearest such place, so that none overflows.
    near, middle, far = a.clamp(-1.0, 1.0), size.clamp(1.0, 8.0), size.clamp(min=8.0)
    erf = near * _polynomial(_T, near.square()) / _polynomial(_U, near.square())
    tail = torch.where(size < 8.0, _polynomial(_P, middle) / _polynomial(_Q, middle), _far(far))
    erfc = torch.where(size < 1.0, 1.0 - erf.abs(), torch.exp(-size.square()) * tail)
    return torch.where(size < sqrt(0.5), 0.5 + 0.5 * erf, torch.where(a < 0.0, 0.5 * erfc, 1.0 - 0.5 * erfc))


def _far(size: Tensor) -> Tensor:
    return _polynomial(_R, size) / _polynomial(_S, size)


def _quantile(u: Tensor) -> Tensor:
    q = u - 0.5
    inner = q.clamp(-0.425, 0.425)
    r = 0.180625 - inner.square()
    middle = inner * _polynomial(_A, r) / _polynomial(_B, r)
    root = torch.sqrt(-torch.log(torch.minimum(u, 1.0 - u)))
    near, far = root.clamp(max=5.0) - 1.6, root.clamp(min=5.0) - 5.0
    outer = torch.where(
        root <= 5.0, _polynomial(_C, near) / _polynomial(_D, near), _polynomial(_E, far) / _polynomial(_F, far)
    )
    return torch.where(q.abs() <= 0.425, middle, q.sign() * outer)


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """By Horner's rule, the highest power's coefficient first."""
    value = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
