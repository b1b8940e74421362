"""Which statistics a family, and a model of it, cannot have, and why: said before anything is trained."""

from __future__ import annotations

from models.base import GenerativeModel, capabilities, has_bound
from training.statistics.background import BackgroundLikelihoodRatio
from training.statistics.base import Statistic
from training.statistics.complexity import ResidualEntropy
from training.statistics.mixture import MixtureDensity
from training.statistics.neighbours import LocalOutlierFactor, NearestRows
from training.statistics.reconstruction import ReconstructionError
from training.statistics.sections import BackgroundRatio, Complexity, LogProb, Neighbours, StatisticSection
from training.statistics.sections import LocalOutlierFactor as Factor
from training.statistics.typicality import LatentTypicality

__all__ = ["why_not_of_family", "why_not_of_model"]

_MODULES: dict[str, type[Statistic]] = {
    "background_ratio": BackgroundLikelihoodRatio,
    "complexity": ResidualEntropy,
    "typicality": LatentTypicality,
    "reconstruction": ReconstructionError,
    "neighbours": NearestRows,
    "local_outlier_factor": LocalOutlierFactor,
    "mixture": MixtureDensity,
}


def why_not_of_family(section: StatisticSection, family: type[GenerativeModel]) -> str | None:
    """None if a family can have a statistic, else the reason in the field's terms."""
    if isinstance(section, LogProb):
        return None if hasattr(family, "log_prob") or hasattr(family, "log_weight") else "it has no log-probability"
    if isinstance(section, Neighbours | Factor) and section.space == "code" and "encode" not in capabilities(family):
        return family.refusals.get("encode") or "it has no codes to measure distances between"
    return _MODULES[section.name].why_not(family)


def why_not_of_model(section: StatisticSection, model: GenerativeModel) -> str | None:
    """None if a model, which knows what a row is, can have a statistic, else the reason in the field's terms."""
    if isinstance(section, BackgroundRatio) and has_bound(model):
        return "its log-probability is a lower bound, and the difference of two bounds bounds nothing"
    if not isinstance(section, LogProb | Complexity | BackgroundRatio) and any(
        part.default is None for part in model.conditions
    ):
        return "it is always conditional: no code and no distance is that of a row alone"
    return None if isinstance(section, LogProb) else _MODULES[section.name].why_not_of(model.support)
