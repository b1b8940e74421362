"""Laws of one pixel given what a network has found in earlier ones.

A pixel is C whole numbers from 0 to L - 1, one for each channel, x_1 ... x_C. All channels are drawn at once.

``LevelSoftmax``, for few levels: each channel has a softmax over its levels, to which the earlier channels of the pixel
add a row of a learnt table each.

``CopyMixture``, for many: a mixture of three kinds of components under one softmax,

    P(x) = sum_k w_k [x = colour of the k-th earlier pixel around]
         + sum_p w_p [x = p-th colour of a palette]
         + sum_m w_m prod_c L(x_c; mu_mc + what x_1 ... x_(c-1) add, s_mc)

L being the logistic law of a level, discretised, with the tails in its ends (T. Salimans et al., "PixelCNN++", 2017,
whose channels depend on each other in the same way). The first two are probabilities of exact colours, as in a pointer
network (S. Merity et al., "Pointer Sentinel Mixture Models", 2016): drawn pictures repeat few colours, and a density
around a colour would spend most of its mass beside it. Every component sums to 1 over all colours, and so does P.
Without copies and palette it is the discretised logistic mixture of PixelCNN++ alone.

Both say what of a pixel the network sees. Colours are compared by code, sum_c x_c L^(c-1), which is exact in single
precision up to 2^24; ``OUTSIDE`` is the code beyond the picture's edge. The place of a colour in the palette takes one
comparison with each of the palette's, so that it is looked up once for each pixel, and handed to ``seen``.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn

from models.nets.lanes import full_lanes, row_logsumexp, row_sum, softplus

__all__ = ["OUTSIDE", "CopyMixture", "LevelSoftmax", "draw_from_softmax"]

OUTSIDE = -1.0

_UNUSED = -2.0  # levels of a place of the palette without a colour
_NEVER = -1e30  # the logit of what cannot be
_SEEN = 16  # numbers that stand for a colour of the palette
_LEAST_SCALE = 0.1  # of a logistic component, in levels; the largest is half of the range
_AT_START = {"copies": 0.5, "palette": 0.4, "logistic": 0.1}


class _Coded(nn.Module):
    """C channels of L levels as one number, and back."""

    def __init__(self, channels: int, levels: int):
        super().__init__()
        self.channels, self.levels = channels, levels

    def code(self, x: Tensor) -> Tensor:
        """x float32 [..., C] -> float32 [...]; negative where a level is."""
        code = x[..., 0]
        for c in range(1, self.channels):
            code = code + x[..., c] * float(self.levels**c)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Codes that are not negative, float32 [...] -> x float32 [..., C]."""
        whole = code.long()
        return torch.stack([whole // self.levels**c % self.levels for c in range(self.channels)], dim=-1).float()

    def _scaled(self, x: Tensor) -> Tensor:
        return x * (2.0 / (self.levels - 1)) - 1.0  # to [-1, 1]


class LevelSoftmax(_Coded):
    """Softmax over the levels of each channel, given the channels before it.

    Args:
        channels: C.
        levels: L.
        intensities: whether the network sees of a pixel its levels as numbers from -1 to 1, rather than one-hot.

    Example:
        >>> law = LevelSoftmax(1, 2)
        >>> x = torch.tensor([[[0.0], [1.0]]])
        >>> law.log_prob(torch.zeros(1, 2, 2), x, x).exp().tolist()
        [[0.5, 0.5]]
    """

    radius = 0

    def __init__(self, channels: int, levels: int, *, intensities: bool = False):
        super().__init__(channels, levels)
        self.intensities = intensities
        self.features = channels if intensities else channels * levels
        self.outputs = channels * levels
        self.uniforms = channels
        # One table for each pair of channels, from the earlier one's level to the later one's logits.
        self.tables = nn.ParameterList(nn.Parameter(torch.zeros(c * levels, levels)) for c in range(1, channels))

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """Logits of the levels' shares in training pixels x [m, C] -> [outputs]."""
        counts = [torch.bincount(part, minlength=self.levels) for part in x.long().unbind(dim=1)]
        shares = [(count + 0.5) / (len(x) + 0.5 * self.levels) for count in counts]
        return torch.cat(shares).log().float()

    def place(self, code: Tensor) -> Tensor:
        """Nothing is looked up: codes [...] -> 0, int64 [...]."""
        return torch.zeros_like(code, dtype=torch.int64)

    def seen(self, code: Tensor, place: Tensor) -> Tensor:
        """What the network sees, levels: codes [n, H + 1, W + 2], with a margin -> [n, features, H, W]."""
        levels = self.decode(code[:, 1:, 1:-1].clamp(min=0))
        seen = self._scaled(levels) if self.intensities else self._one_hot(levels).flatten(3)
        return seen.permute(0, 3, 1, 2)

    def log_prob(self, raw: Tensor, x: Tensor, around: Tensor) -> Tensor:
        """log P(x): raw [n, P, outputs], x [n, P, C], around is not looked at -> float64 [n, P]."""
        one_hot = self._one_hot(x).flatten(2)  # [n, P, C L]
        total = x.new_zeros(x.shape[:2], dtype=torch.float64)
        for c in range(self.channels):
            logits = self._logits(raw, one_hot, c).double()
            seen = one_hot[..., c * self.levels : (c + 1) * self.levels].double()
            total = total + row_sum(logits * seen) - row_logsumexp(logits)
        return total

    def draw(self, raw: Tensor, around: Tensor, u: Tensor, temperature: Tensor) -> Tensor:
        """raw [n, outputs], around is not looked at, u [n, uniforms], temperature [n] -> x [n, C]."""
        one_hot, drawn = raw[:, :0], []
        for c in range(self.channels):
            drawn.append(draw_from_softmax(self._logits(raw, one_hot, c) / temperature[:, None], u[:, c]).float())
            one_hot = torch.cat([one_hot, self._one_hot(drawn[-1])], dim=1)
        return torch.stack(drawn, dim=1)

    def _one_hot(self, x: Tensor) -> Tensor:
        return (x[..., None] == torch.arange(self.levels, dtype=x.dtype, device=x.device)).float()

    def _logits(self, raw: Tensor, one_hot: Tensor, c: int) -> Tensor:
        """Of channel c: raw [..., outputs], the channels before it as one-hot [..., c L or more] -> [..., L]."""
        logits = raw[..., c * self.levels : (c + 1) * self.levels]
        return logits if c == 0 else logits + one_hot[..., : c * self.levels] @ self.tables[c - 1]


class CopyMixture(_Coded):
    """Copies of pixels around, colours of a palette, and discretised logistic laws.

    Args:
        channels: C.
        levels: L.
        radius: copies are of the earlier pixels at most so many rows and columns away.
        palette: colours of the palette, the most frequent ones in training.
        components: logistic components.

    Example:
        >>> law = CopyMixture(1, 4, radius=1, palette=2, components=1)
        >>> raw, around = torch.zeros(1, 4, law.outputs), torch.tensor([[[3.0, 3.0, 0.0, OUTSIDE]]]).expand(1, 4, 4)
        >>> x = torch.arange(4.0).reshape(1, 4, 1)
        >>> round(law.log_prob(raw, x, around).exp().sum().item(), 6)
        1.0
    """

    palette: Tensor

    def __init__(self, channels: int, levels: int, *, radius: int, palette: int, components: int):
        super().__init__(channels, levels)
        if min(radius, palette) < 0 or components < 1:
            raise ValueError("copies and palette are 0 or more, components 1 or more")
        self.radius, self.components = radius, components
        self.copies = 2 * radius * (radius + 1)
        self.register_buffer("palette", torch.full((palette, channels), _UNUSED))
        # The last is for colours that are not of the palette.
        self.embedding = nn.Embedding(palette + 1, _SEEN) if palette else None
        self.features = channels + (4 if radius else 0) + (_SEEN if palette else 0)
        self.weights = self.copies + palette + components
        # Of each component: mean and log-scale by channel, and what each channel adds to the means of later ones.
        self.pairs = channels * (channels - 1) // 2
        self.outputs = self.weights + components * (2 * channels + self.pairs)
        self.uniforms = 1 + channels
        self.log_scales = (log(_LEAST_SCALE), log(levels / 2))

    @torch.no_grad()
    def start(self, x: Tensor) -> Tensor:
        """Take the palette from training pixels x [m, C]; -> outputs to start from, [outputs]."""
        colours, counts = torch.unique(x.float(), dim=0, return_counts=True)
        order = counts.argsort(descending=True, stable=True)[: len(self.palette)]
        self.palette.fill_(_UNUSED)
        self.palette[: len(order)] = colours[order]
        shares = torch.full((len(self.palette),), 1.0)
        shares[: len(order)] = counts[order].float()
        parts = [
            torch.full((self.copies,), log(_AT_START["copies"] / max(self.copies, 1))),
            (shares / shares.sum().clamp(min=1)).log() + log(_AT_START["palette"]),
            torch.full((self.components,), log(_AT_START["logistic"] / self.components)),
        ]
        spread = (torch.arange(self.components) + 0.5) * 2.0 / self.components - 1.0  # means, over the whole range
        means = spread[:, None].expand(-1, self.channels)
        scales = torch.full((self.components, self.channels), 1.5)  # wide: far from its value a narrow law is steep
        add = torch.zeros(self.components, self.pairs)
        return torch.cat([*parts, torch.cat([means, scales, add], dim=1).flatten()])

    def place(self, code: Tensor) -> Tensor:
        """Place of each colour in the palette, or the number of places: codes [...] -> int64 [...]."""
        if not len(self.palette):
            return torch.zeros_like(code, dtype=torch.int64)
        places = torch.arange(len(self.palette), dtype=code.dtype, device=code.device) - len(self.palette)
        hit = (code[..., None] == self.code(self.palette)).to(code.dtype)  # of different colours: one at most
        return (hit @ places).long() + len(self.palette)

    def seen(self, code: Tensor, place: Tensor) -> Tensor:
        """What the network sees of a pixel: its levels, which earlier neighbours it equals, and which colour it is.

        Args:
            code: [n, H + 1, W + 2], with a margin of one pixel above and on both sides.
            place: int64 [n, H, W].

        Returns:
            [n, features, H, W].
        """
        here = code[:, 1:, 1:-1]
        parts = [self._scaled(self.decode(here.clamp(min=0)))]
        if self.copies:
            neighbours = (code[:, 1:, :-2], code[:, :-1, 1:-1], code[:, :-1, :-2], code[:, :-1, 2:])
            parts.append(torch.stack([here == other for other in neighbours], dim=-1).float())
        if self.embedding is not None:
            parts.append(self.embedding(place))
        return torch.cat(parts, dim=-1).permute(0, 3, 1, 2)

    def log_prob(self, raw: Tensor, x: Tensor, around: Tensor) -> Tensor:
        """log P(x): raw [n, P, outputs], x [n, P, C], around [n, P, copies], codes -> float64 [n, P]."""
        logits, mean, log_scale, add = self._parts(raw, around)
        code = self.code(x)
        terms = []
        if self.copies:
            terms.append(torch.where(around == code[..., None], logits[..., : self.copies], _NEVER))
        if len(self.palette):
            place = self.place(code)
            mine = logits.gather(
                2, (self.copies + place)[..., None]
            )  # where there is none, another, which does not count
            terms.append(torch.where((place < len(self.palette))[..., None], mine, _NEVER))
        terms.append(logits[..., -self.components :] + self._logistic(x, mean, log_scale, add).float())
        return _logsumexp(torch.cat(terms, dim=2)) - _logsumexp(logits)

    def draw(self, raw: Tensor, around: Tensor, u: Tensor, temperature: Tensor) -> Tensor:
        """raw [n, outputs], around [n, copies], u [n, uniforms], temperature [n] -> x [n, C]."""
        logits, mean, log_scale, add = (part[:, 0] for part in self._parts(raw[:, None], around[:, None]))
        chosen = draw_from_softmax(logits / temperature[:, None], u[:, 0])  # [n]
        m = chosen - (self.weights - self.components)
        here = (torch.arange(self.components, device=m.device) == m[:, None]).float()[..., None]  # [n, M, 1]
        mean, log_scale, add = ((part * here).sum(dim=1) for part in (mean, log_scale, add))
        inner = u[:, 1:].double() + 2.0**-25  # the middle of its cell: never 0 or 1
        noise = full_lanes(torch.log, inner) - full_lanes(torch.log, 1.0 - inner)
        noise = noise * full_lanes(torch.exp, log_scale.double()) * temperature[:, None].double()
        smooth: list[Tensor] = []
        for c in range(self.channels):
            centre = self._centre(mean, add, [self._scaled(level) for level in smooth], c)
            value = (centre.double() + 1.0) * (0.5 * (self.levels - 1)) + noise[:, c]
            smooth.append((value + 0.5).floor().clamp(0, self.levels - 1).float())
        drawn = torch.stack(smooth, dim=1)
        if self.weights == self.components:
            return drawn
        # The colour itself where it was known: at most one term of the sum is not 0.
        known = torch.cat([around, self.code(self.palette).expand(around.shape[0], -1)], dim=1)
        place = torch.arange(known.shape[1], device=chosen.device)
        exact = self.decode(row_sum(torch.where(place == chosen[:, None], known, 0.0)))
        return torch.where((m < 0)[:, None], exact, drawn)

    def _parts(self, raw: Tensor, around: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits [n, P, weights], mean and log-scale [n, P, M, C], what channels add to later ones [n, P, M, pairs]."""
        logits, rest = raw[..., : self.weights], raw[..., self.weights :]
        if self.weights > self.components:
            # What lies outside cannot be copied, and a palette may have fewer colours than places.
            used = torch.where(self.palette[:, 0] >= 0, 0.0, _NEVER)
            ahead = torch.where(around >= 0, 0.0, _NEVER)
            others = used.new_zeros(*around.shape[:2], self.components)
            logits = logits + torch.cat([ahead, used.expand(*around.shape[:2], -1), others], dim=2)
        parts = rest.reshape(*rest.shape[:2], self.components, -1)
        mean, log_scale, add = torch.split(parts, [self.channels, self.channels, self.pairs], dim=-1)
        low, high = self.log_scales
        return logits, mean, low + (high - low) * torch.sigmoid(log_scale), add

    def _logistic(self, x: Tensor, mean: Tensor, log_scale: Tensor, add: Tensor) -> Tensor:
        """Log-probability of x under each component: x [n, P, C], the others [n, P, M, ...] -> float64 [n, P, M]."""
        scaled = [part[..., None] for part in self._scaled(x).unbind(dim=-1)]
        centre = torch.stack([self._centre(mean, add, scaled, c) for c in range(self.channels)], dim=-1)
        x = x[:, :, None].expand_as(centre)
        below = (x - 0.5 - (centre + 1.0) * (0.5 * (self.levels - 1))).flatten(1).double()
        log_scale = log_scale.flatten(1).double()
        step = full_lanes(torch.exp, -log_scale)  # of one level, in scales
        low = below * step
        # log [sigmoid(low + step) - sigmoid(low)], where the ends of the range have the tails.
        left, right = softplus(low), softplus(-(low + step))
        x = x.flatten(1)
        inner = full_lanes(torch.log, 1.0 - full_lanes(torch.exp, -step))
        one = torch.where(x < 0.5, -right, torch.where(x > self.levels - 1.5, -left, inner - left - right))
        terms = one.reshape(centre.shape).unbind(dim=-1)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    @staticmethod
    def _centre(mean: Tensor, add: Tensor, before: list[Tensor], c: int) -> Tensor:
        """Mean of channel c, scaled, once the channels before it are known: [..., C], [..., pairs] -> [...]."""
        centre = mean[..., c]
        for i in range(c):
            centre = centre + add[..., c * (c - 1) // 2 + i] * before[i]
        return centre


def draw_from_softmax(logits: Tensor, u: Tensor) -> Tensor:
    """Draw from a softmax: logits [n, d], u [n] -> int64 [n]."""
    mass = torch.exp(logits - logits.amax(dim=1, keepdim=True)).cumsum(dim=1)
    chosen = (mass <= u[:, None] * mass[:, -1:]).long().sum(dim=1)
    return chosen.clamp(max=logits.shape[1] - 1)


def _logsumexp(x: Tensor) -> Tensor:
    """log sum exp over the last axis, of which each is single but the logarithm: [n, P, d] -> float64 [n, P]."""
    largest = x.amax(dim=-1, keepdim=True)
    total = row_sum(torch.exp(x - largest)).double()
    return largest[..., 0].double() + full_lanes(torch.log, total)
