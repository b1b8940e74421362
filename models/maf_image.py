"""Masked autoregressive flow for pictures: autoregressive layers of affine maps over dequantised levels.

    log p(x) >= E log p(v),    log p(v) = log N(z; 0, I) + sum of all a_i,    z_i = v_i exp(a_i) + b_i

for one layer, with values v of the levels x, and a_i and b_i functions of v_1 ... v_{i-1}; several layers follow each
other (G. Papamakarios, T. Pavlakou and I. Murray, "Masked Autoregressive Flow for Density Estimation", 2017; a and b
are theirs of the inverse: a = -alpha, b = -mu exp(-alpha)). What makes of it a bound on the probability of a picture,
and what a code is, stands in ``models/nets/picture_flow.py``.

As in the paper, levels go through a logit, pixels come in the order in which a row lists them, and in the reverse order
in every second layer, and the functions of a layer are one masked network. The bound and the code of a picture take one
pass through each layer; a draw and a decoded code take a step a pixel of each layer, which stands in
``models/nets/autoregressive_steps.py``. In place of the paper's batch normalisation, values are scaled once, pixel by
pixel, by the training rows' means and deviations, and each network ends in weights that start at zero, so that the flow
starts as independent normal laws of the pixels.

Example:
    >>> import torch
    >>> from contract.support import Column, Support
    >>> pixel = Column(name="pixel", kind="ordinal", levels=256, base_measure="counting")
    >>> model = MAFImage(Support(shape=(3, 3), element=pixel), layers=2, hidden=16)
    >>> x = torch.randint(0, 256, (50, 3, 3), dtype=torch.uint8)
    >>> model.prepare(x)
    >>> bool((model.decode(model.encode(x)) == x).all())
    True
"""

from __future__ import annotations

import torch
from torch import Tensor

from contract.programs import State
from contract.support import Support
from models.base import register
from models.nets.autoregressive_steps import SteppedAutoregressive
from models.nets.picture_flow import PictureFlow, Preprocess
from models.nets.transforms import Standardise

__all__ = ["MAFImage"]

_ROWS = 1024  # counted at a time
_PARTS = 16  # of a level, over which the moments of its values are taken


@register("maf-image")
class MAFImage(PictureFlow):
    """Masked autoregressive flow of pictures in black and white, grey or colour.

    Args:
        support: pixels of 2 to 256 levels, [H, W] or [H, W, 3].
        layers: autoregressive layers.
        hidden: hidden units of each layer's network; a multiple of 16 is fastest.
        log_scale_bound: bound on the log-scale of one layer.
        preprocess: ``logit`` as in the paper, for pixels that crowd at the ends of the range, or ``affine``.
    """

    def __init__(
        self,
        support: Support,
        *,
        layers: int = 5,
        hidden: int = 512,
        log_scale_bound: float = 5.0,
        preprocess: Preprocess = "logit",
    ):
        super().__init__(support, preprocess=preprocess)
        self.scaling = Standardise(support.size)
        self.layers = SteppedAutoregressive(support.size, layers=layers, hidden=hidden, log_scale_bound=log_scale_bound)

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Scale every pixel by the mean and deviation of its values in x [n, *shape], over all of each level."""
        size, cells = self.support.size, self.support.size * self.levels
        place = self.levels * torch.arange(size)
        # One row more that has every level alike, so that a pixel that never varies has a scale.
        counts = torch.full((cells,), 1.0 / self.levels, dtype=torch.float64)
        for rows in torch.split(x.flatten(1), _ROWS):
            counts += torch.bincount((rows + place).flatten(), minlength=cells)
        shares = counts.reshape(size, self.levels) / (len(x) + 1)
        places = torch.arange(self.levels * _PARTS, dtype=torch.float64)[:, None]
        values = self.outer.forward_and_log_det((places + 0.5) / _PARTS)[0].reshape(self.levels, _PARTS)
        mean = shares @ values.mean(dim=1)
        deviation = (shares @ values.square().mean(dim=1) - mean.square()).sqrt()
        self.scaling.mean.copy_(mean)
        self.scaling.deviation.copy_(deviation)
        self.scaling.log_det_deviation.copy_(deviation.log().sum())

    # -- codes to pictures, pixel by pixel -------------------------------------------------------------------------

    @property
    def decode_steps(self) -> int:
        """Layers times D."""
        return self.layers.steps

    @property
    def decode_state(self) -> tuple[State, ...]:
        """Of a row: the hidden units' inputs of the layer that it is at, and its coordinates there."""
        return self.layers.state

    def decode_init(self, z: Tensor) -> tuple[Tensor, ...]:
        """z float64 [n, D] -> (h float32 [n, hidden], values float32 [n, D]), before the last layer."""
        return self.layers.start(z.float())

    def decode_step(self, t: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Undo one layer at one pixel of each row: t int64 [n], the state -> the next state."""
        h, values = state
        return self.layers.step(t, h, values)

    def decode_final(self, *state: Tensor) -> Tensor:
        """The last state -> x [n, *shape]."""
        return self._rounded(self._in_levels(state[1]))

    # -- the flow --------------------------------------------------------------------------------------------------

    def _to_code(self, y: Tensor, *conditions: Tensor) -> tuple[Tensor, Tensor]:
        """y float64 [n, D], in levels -> (z float32 [n, D], log |det dz/dy| float64 [n])."""
        values, outer = self.outer.forward_and_log_det(y)
        scaled, scaling = self.scaling.forward_and_log_det(values)
        z, inner = self.layers(scaled.float())
        return z, outer + scaling + inner

    def _from_code(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """z float32 [n, D] -> y float64 [n, D], in levels."""
        state = self.decode_init(z)
        for t in range(self.decode_steps):
            state = self.decode_step(torch.full((z.shape[0],), t, device=z.device), *state)
        return self._in_levels(state[1])

    def _in_levels(self, scaled: Tensor) -> Tensor:
        """Values as the layers have them, float32 [n, D] -> y float64 [n, D], in levels."""
        return self.outer.inverse(self.scaling.inverse_and_log_det(scaled.double())[0])
