"""What the page of a sample shows of it: its values, and what else it could have been drawn with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.model import LoadedModel
from service.web.choices import own_noise
from service.web.figures import number, scatter, strip
from service.web.samples import Address, planar

__all__ = ["choices", "noise", "values"]

SHOWN_VALUES = 64


def choices(root: str, address: Address) -> list[dict[str, Any]]:
    """For each condition its labels, with links to this address drawn for them."""
    found = []
    for part in address.program.inputs:
        if part.source != "condition" or part.vocabulary is None:
            continue
        used = address.chosen.label(part.name)
        labels = [None, *part.vocabulary] if part.default is not None else list(part.vocabulary)
        options = [
            {
                "text": "any" if label is None else label,
                "href": root + replace(address, chosen=address.chosen.with_label(part.name, label)).path,
                "used": label == used,
            }
            for label in labels
        ]
        found.append({"name": part.name, "options": options})
    return found


def noise(root: str, address: Address) -> dict[str, Any] | None:
    """What is said of the noise of what is observed, where it can be left out, with links to both."""
    part = own_noise(address.program, address.support)
    if part is None or part.default is None:
        return None
    used = address.chosen.knob(part.name, part.default)
    if used == 0:
        words = "This is the mean picture of its code: the noise that the model's law adds to each pixel is left out."
    elif used == part.default:
        words = "This is a draw from the model's own law, which adds noise to each pixel of a mean picture."
    else:
        words = f"This is a draw with the noise of its pixels at {number(used)}; in the model's own law it is " + (
            f"{number(part.default)}."
        )
    options = [
        {"text": text, "href": root + replace(address, chosen=address.chosen.with_knob(part, value)).path}
        | {"used": used == value}
        for text, value in (("left out", 0.0), ("as in the model's law", part.default))
    ]
    return {"name": "noise", "options": options, "words": words}


def values(model: LoadedModel, row: NDArray[Any], cloud: NDArray[np.float64] | None) -> dict[str, Any]:
    """The first values of a row, each with where it lies among others [n, *shape], and points as a drawing."""
    support = model.manifest.support
    flat = row.reshape(-1).astype(np.float64)
    others = cloud.reshape(len(cloud), -1) if cloud is not None else None
    shown = [
        {
            "name": support.label(index),
            "text": _text(model, index, float(flat[index])),
            "strip": strip(others[:, index], float(flat[index])) if others is not None and not planar(support) else "",
        }
        for index in range(min(len(flat), SHOWN_VALUES))
    ]
    svg = None
    if planar(support) and cloud is not None:
        svg = scatter(cloud, flat, (support.label(0), support.label(1)), (480, 340))
    strips = others is not None and svg is None
    return {"values": shown, "more": len(flat) - len(shown), "svg": svg, "strips": strips}


def _text(model: LoadedModel, index: int, value: float) -> str:
    column = model.manifest.support.column_at(index)
    if column.categories is not None and np.isfinite(value):
        return column.categories[int(value)]
    return number(value)
