"""What every family promises of rows of which a part is known, on the exported graphs: marginals and filled holes.

Parametrised over the registry, like the other contract tests, and held against the same law: integrated over the plane
or summed over every state.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from contract.capabilities import Capability
from models.base import capabilities, registry
from runtime.loop import run_program
from tests.contract.test_families import DETERMINED, law_of
from tests.families import TrainedFamily, every_state

Array = NDArray[Any]

DRAWS = 4000


def able(capability: Capability) -> pytest.MarkDecorator:
    names = [name for name, cls in registry().items() if capability in capabilities(cls)]
    return pytest.mark.parametrize("family", names, indirect=True)


def masks(family: TrainedFamily) -> list[Array]:
    """Which coordinates are known: every choice of two columns; of pictures nothing, a beginning, an end and some."""
    shape = family.model.known_shape
    size = int(np.prod(shape))
    if size == 2:
        return [np.array(known) for known in product((False, True), repeat=2)]
    place = np.arange(size)
    some = np.random.default_rng(1).random(size) < 0.5
    return [known.reshape(shape) for known in (place < 0, place < size // 2, place >= size - 3, some)]


def by_coordinate(family: TrainedFamily, known: Array) -> Array:
    """What is known, coordinate by coordinate: bool [*known_shape] -> bool [*shape]."""
    shape = family.model.support.shape
    return np.broadcast_to(known.reshape(*known.shape, *[1] * (len(shape) - known.ndim)), shape)


def several(family: TrainedFamily, known: Array, n: int) -> Array:
    return np.broadcast_to(known, (n, *known.shape)).copy()


def marginal(family: TrainedFamily, x: Array, known: Array) -> Array:
    asked = {"x": x, "known": several(family, known, len(x))}
    return run_program(family.served, "marginal", asked)["log_prob"]


def fill(family: TrainedFamily, x: Array, known: Array, n: int, seed: int = 3) -> Array:
    """n draws of one row's holes."""
    asked = {"x": np.repeat(x[None], n, axis=0), "known": several(family, known, n)}
    asked |= {"seed": np.full(n, seed), "row": np.arange(n)}
    output = next(part.name for part in family.served.program("inpaint").outputs if part.kind == "sample")
    return run_program(family.served, "inpaint", asked)[output]


def line(family: TrainedFamily, x: Array, known: Array) -> tuple[Array, Array]:
    """The law along the one column that is not known: points [m] and the mass at each, jointly with what is known."""
    (hole,) = np.flatnonzero(~known)
    column = family.model.support.column_at(int(hole))
    rows = family.folds.train.rows[:, hole]
    middle, half = (rows.min() + rows.max()) / 2, 3 * (rows.max() - rows.min())
    if column.base_measure == "counting":
        points, width = np.arange(rows.max() + 60), 1.0
    else:
        low = 0.0 if column.kind == "positive" else middle - half
        width = (middle + half - low) / 20_000
        points = low + width * (np.arange(20_000) + 0.5)
    whole = np.repeat(x[None], len(points), axis=0)
    whole[:, hole] = points
    return points, np.exp(run_program(family.served, "log_prob", {"x": whole})["log_prob"]) * width


def states(family: TrainedFamily) -> Array:
    """Every state, flat, in the order of the law's: [m, D]."""
    support = family.model.support
    return every_state(support).reshape(-1, support.size).astype(np.int64)


def completions(family: TrainedFamily, x: Array, known: Array, filling: str | None) -> Array:
    """The law of every state given what is known of x: [m].

    Of ``earlier`` each coordinate given those before it, known or drawn, and no later one.
    """
    law, every = law_of(family.name), states(family)
    levels = int(every.max()) + 1
    flat, held = x.reshape(-1), by_coordinate(family, known).reshape(-1)
    fits = (every == flat)[:, held].all(axis=1)
    if filling != "earlier":
        return np.where(fits, law.mass, 0.0) / law.mass[fits].sum()
    chance = np.where(fits, 1.0, 0.0)
    for t in np.flatnonzero(~held):
        before = every[:, :t] @ levels ** np.arange(t)
        upto = every[:, : t + 1] @ levels ** np.arange(t + 1)
        chance *= np.bincount(upto, weights=law.mass)[upto] / np.bincount(before, weights=law.mass)[before]
    return chance


# -- marginals -------------------------------------------------------------------------------------------------------


@able("marginal")
def test_a_marginal_is_the_law_summed_or_integrated_over_the_rest(family: TrainedFamily) -> None:
    rows = family.folds.test.rows[:8]
    for known in masks(family):
        found = marginal(family, rows, known)
        if known.all():
            wanted = run_program(family.served, "log_prob", {"x": rows})["log_prob"]
        elif not known.any():
            wanted = np.zeros(len(rows))
        elif family.model.support.discrete:
            fits = (states(family)[None] == rows.reshape(len(rows), 1, -1))[..., by_coordinate(family, known).ravel()]
            wanted = np.log((fits.all(axis=-1) * law_of(family.name).mass).sum(axis=1))
        else:
            wanted = np.log([line(family, row, known)[1].sum() for row in rows])
        assert np.allclose(found, wanted, rtol=1e-6, atol=1e-6)


@able("marginal")
def test_a_marginal_ignores_its_neighbours_and_what_stands_in_a_hole(family: TrainedFamily) -> None:
    rows, known = family.folds.test.rows[:40], masks(family)[1]
    whole = marginal(family, rows, known)
    assert marginal(family, rows[[7]], known).tobytes() == whole[[7]].tobytes()
    assert marginal(family, rows[5:38], known).tobytes() == whole[5:38].tobytes()
    other = np.where(by_coordinate(family, known), rows, 1).astype(rows.dtype)
    assert marginal(family, other, known).tobytes() == whole.tobytes()


# -- holes -----------------------------------------------------------------------------------------------------------


@able("inpaint")
def test_what_is_known_stays_and_what_is_drawn_is_allowed(family: TrainedFamily) -> None:
    for known in masks(family):
        for row in family.folds.test.rows[:3]:
            drawn = fill(family, row, known, 50)
            held = by_coordinate(family, known)
            assert drawn[:, held].tobytes() == np.repeat(row[None], 50, axis=0)[:, held].tobytes()
            assert np.array_equal(family.model.support.check(drawn), drawn)


@able("inpaint")
def test_holes_are_filled_by_the_law_given_what_is_known(family: TrainedFamily) -> None:
    filling = family.served.program("inpaint").filling
    tried = 0
    for known in masks(family):
        for row in family.folds.test.rows[:2]:
            if known.all():
                continue
            drawn = fill(family, row, known, DRAWS)
            if family.model.support.discrete:
                chance = completions(family, row, known, filling)
                law = law_of(family.name)
                observed = np.bincount(law.block_of(drawn), minlength=len(chance)).astype(np.float64)
                assert observed[chance == 0].sum() == 0
                often = chance * DRAWS >= 5
                counts = np.append(observed[often], observed[~often].sum())
                expected = np.append(chance[often], max(1.0 - chance[often].sum(), 1e-9)) * DRAWS
                assert stats.chisquare(counts, expected * (DRAWS / expected.sum())).pvalue > DETERMINED
            elif known.any():
                assert filling == "exact"
                points, mass = line(family, row, known)
                (hole,) = np.flatnonzero(~known)
                # Blocks of about a fortieth of the mass each, however many points they take.
                block = np.minimum((np.cumsum(mass) / mass.sum() * 40).astype(np.int64), 39)
                edges = points[:-1][np.diff(block) > 0] + (points[1] - points[0]) / 2
                observed = np.bincount(np.searchsorted(edges, drawn[:, hole]), minlength=len(edges) + 1)
                expected = np.bincount(np.unique(block, return_inverse=True)[1], weights=mass) / mass.sum() * DRAWS
                often = expected >= 5
                counts = np.append(observed[often], observed[~often].sum())[: often.sum() + (~often).any()]
                wanted = np.append(expected[often], expected[~often].sum())[: often.sum() + (~often).any()]
                assert len(counts) > 4
                assert stats.chisquare(counts, wanted * (DRAWS / wanted.sum())).pvalue > DETERMINED
            else:  # nothing is known: the law itself
                surprise = -run_program(family.served, "log_prob", {"x": drawn})["log_prob"]
                assert abs(surprise.mean() - law_of(family.name).entropy) < 4 * surprise.std() / DRAWS**0.5
            tried += 1
    assert tried >= 6


@able("inpaint")
def test_a_filled_row_of_an_address_is_the_same_in_any_batch(family: TrainedFamily) -> None:
    known = masks(family)[1]
    row = family.folds.test.rows[0]
    whole = fill(family, row, known, 60)
    assert fill(family, row, known, 8).tobytes() == whole[:8].tobytes()
    # What stands in a hole is not looked at.
    other = np.where(by_coordinate(family, known), row, 1).astype(row.dtype)
    assert fill(family, other, known, 60).tobytes() == whole.tobytes()
    # Among rows of which something else is known.
    n, asks = 3, [masks(family)[0], known, masks(family)[-1]]
    asked = {"x": np.repeat(row[None], n, axis=0), "known": np.stack(asks)}
    output = next(part.name for part in family.served.program("inpaint").outputs if part.kind == "sample")
    mixed = run_program(family.served, "inpaint", {**asked, "seed": np.full(n, 3), "row": np.full(n, 7)})[output]
    assert mixed[1].tobytes() == whole[7].tobytes()


@able("inpaint")
def test_nothing_known_later_moves_what_does_not_look_ahead(family: TrainedFamily) -> None:
    if family.served.program("inpaint").filling != "earlier":
        assert family.served.program("inpaint").filling in ("exact", "chain")
        return
    size = int(np.prod(family.model.known_shape))
    row = family.folds.test.rows[0]
    nothing = np.zeros(size, dtype=np.bool_)
    end = np.arange(size) >= size - 2
    free = fill(family, row, nothing.reshape(family.model.known_shape), 200).reshape(200, -1)
    held = fill(family, row, end.reshape(family.model.known_shape), 200).reshape(200, -1)
    first = ~by_coordinate(family, end.reshape(family.model.known_shape)).reshape(-1)
    assert np.array_equal(free[:, first], held[:, first])
