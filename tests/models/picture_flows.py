"""What every normalizing flow of pictures keeps, whatever its layers: tests of the families call these."""

from __future__ import annotations

import torch
from torch import Tensor

from models.nets.picture_flow import PictureFlow

__all__ = ["check_decode_undoes_encode", "check_weight"]


def check_decode_undoes_encode(model: PictureFlow, x: Tensor) -> None:
    """A code has as many numbers as the picture, and leads back to it, to the level."""
    z = model.encode(x)
    assert z.shape == (len(x), model.support.size)
    assert torch.equal(model.decode(z), x)


def check_weight(model: PictureFlow, x: Tensor) -> None:
    """What weighs a draw of the noise: the standard normal law of the code, and autodiff's determinant of the map."""
    y = x.flatten(1).double() + 0.25
    z, log_det = model._to_code(y)
    jacobian = torch.autograd.functional.jacobian(lambda v: model._to_code(v)[0].double().sum(dim=0), y)
    expected = torch.linalg.slogdet(jacobian.transpose(0, 1)).logabsdet
    assert torch.allclose(log_det, expected, rtol=1e-4, atol=1e-3)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z.double()).sum(dim=1)
    assert torch.allclose(model.latent_log_prob(z.double()), normal, rtol=1e-6, atol=1e-6)
    seed = torch.zeros(len(x), dtype=torch.int64)
    weight = model.log_weight(x, seed, torch.arange(len(x)), seed)
    assert weight.dtype == torch.float64
    assert torch.isfinite(weight).all()
