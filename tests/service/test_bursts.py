"""What finds the runtime idle: questions that arrive together run together, at once, and nobody is in anybody's way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.model import LoadedModel, load_model
from service.costs import CostModel
from service.errand import Errand
from service.errors import DeadlineExceeded
from service.predictions import Predictions
from service.scheduler import Limits, Scheduler
from tests import bundles


@pytest.fixture
def models(tmp_path: Path) -> list[LoadedModel]:
    return [
        load_model(bundles.write(tmp_path, bundles.affine("near"))),
        load_model(bundles.write(tmp_path, bundles.affine("far", shift=3.0))),
    ]


def within(limits: Limits, models: list[LoadedModel], use: Any, **options: Any) -> tuple[Any, list[tuple[str, int]]]:
    """What ``use`` gives, and the runs that there were: (name of the model, rows)."""
    runs: list[tuple[str, int]] = []

    async def scenario() -> Any:
        scheduler = Scheduler(
            limits, observe=lambda model, graph, rows, seconds: runs.append((model.manifest.name, rows)), **options
        )
        scheduler.start()
        for model in models:
            scheduler.warm(model, {"log_prob": {"x": np.zeros((1, 2))}})
        try:
            async with asyncio.timeout(20):
                return await use(scheduler)
        finally:
            await scheduler.close()

    return asyncio.run(scenario()), runs


# Where a run is known to cost a tenth of a millisecond and a hundredth of one a row: 50 rows, 90 and 130.
LIMITS = Limits(inline_seconds=6.01e-4, soon_seconds=6.01e-4, tick_seconds=1.001e-3, run_seconds=1.401e-3)


def know(scheduler: Scheduler, model: LoadedModel) -> None:
    key = model.digest, model.program("log_prob").step
    scheduler._predictions._costs[key] = CostModel([(1, 1.1e-4), (101, 1.11e-3)])


ROOMY = Limits(inline_seconds=1.0, soon_seconds=1.0, tick_seconds=1.0)


def points(n: int, first: float = 0.0) -> np.ndarray:
    return np.linspace(first, first + 1.0, 2 * n).reshape(n, 2)


def test_what_arrives_together_runs_together_by_model(models: list[LoadedModel]) -> None:
    near, far = models

    async def use(scheduler: Scheduler) -> list[Any]:
        sizes = ((near, 1), (far, 2), (near, 3), (far, 1))
        asked = [scheduler.run(model, "log_prob", {"x": points(n, float(n))}) for model, n in sizes]
        return await asyncio.gather(*asked)

    answers, runs = within(ROOMY, models, use)
    assert sorted(runs) == [("far", 3), ("near", 4)]
    for (n, shift), answer in zip(((1, 0.0), (2, 3.0), (3, 0.0), (1, 3.0)), answers, strict=True):
        np.testing.assert_allclose(answer["log_prob"], bundles.log_prob_of(points(n, float(n)), shift), atol=1e-12)


def test_rows_that_wait_are_in_flight_and_drained(models: list[LoadedModel]) -> None:
    async def use(scheduler: Scheduler) -> Any:
        future = scheduler.submit(models[0], "log_prob", {"x": points(5)}, 5)
        assert scheduler.rows_in_flight == 5
        await scheduler.drain()
        assert scheduler.rows_in_flight == 0
        return await future

    answer, _ = within(ROOMY, models, use)
    assert answer["log_prob"].shape == (5,)


def test_whoever_left_is_not_run_for(models: list[LoadedModel]) -> None:
    async def use(scheduler: Scheduler) -> Any:
        stays, leaves = (scheduler.submit(models[0], "log_prob", {"x": points(n)}, n) for n in (2, 30))
        leaves.cancel()
        return await stays

    answer, runs = within(ROOMY, models, use)
    assert runs == [("near", 2)]
    np.testing.assert_allclose(answer["log_prob"], bundles.log_prob_of(points(2)), atol=1e-12)


def test_a_deadline_that_has_passed_is_said(models: list[LoadedModel]) -> None:
    async def use(scheduler: Scheduler) -> None:
        late = scheduler.submit(models[0], "log_prob", {"x": points(2)}, 2, errand=Errand(deadline=scheduler.now()))
        with pytest.raises(DeadlineExceeded):
            await late

    _, runs = within(ROOMY, models, use)
    assert runs == []


def test_what_may_take_longer_waits_its_turn(models: list[LoadedModel]) -> None:
    async def use(scheduler: Scheduler) -> None:
        know(scheduler, models[0])
        asked = [scheduler.submit(models[0], "log_prob", {"x": points(n)}, n) for n in (40, 40, 40)]
        assert not scheduler._tickets, "all within what may wait"
        asked.append(scheduler.submit(models[0], "log_prob", {"x": points(40)}, 40))
        assert len(scheduler._tickets) == 1, "the fourth is too much"
        asked.append(scheduler.submit(models[0], "log_prob", {"x": points(1)}, 1))
        assert len(scheduler._tickets) == 1, "and one that is within it goes along"
        for n, answer in zip((40, 40, 40, 40, 1), await asyncio.gather(*asked), strict=True):
            np.testing.assert_allclose(answer["log_prob"], bundles.log_prob_of(points(n)), atol=1e-12)

    within(LIMITS, models, use)


def test_what_is_too_much_for_one_turn_waits_for_the_next(models: list[LoadedModel]) -> None:
    near, far = models

    async def use(scheduler: Scheduler) -> list[Any]:
        for model in models:
            know(scheduler, model)
        asked = [scheduler.run(model, "log_prob", {"x": points(40)}) for model in (near, near, near)]
        answers = asyncio.gather(*asked)
        await asyncio.sleep(0)
        asked = [scheduler.submit(model, "log_prob", {"x": points(1)}, 1) for model in (far, near)]
        return [*await answers, *await asyncio.gather(*asked)]

    answers, runs = within(LIMITS, models, use)
    assert {(model, rows) for model, rows in runs[:2]} >= {("near", 80)}
    assert sum(rows for model, rows in runs if model == "near") == 121
    assert sum(rows for model, rows in runs if model == "far") == 1
    for n, shift, answer in zip((40, 40, 40, 1, 1), (0.0, 0.0, 0.0, 3.0, 0.0), answers, strict=True):
        np.testing.assert_allclose(answer["log_prob"], bundles.log_prob_of(points(n), shift), atol=1e-12)


def test_what_takes_too_long_by_itself_waits_its_turn(models: list[LoadedModel]) -> None:
    async def use(scheduler: Scheduler) -> None:
        know(scheduler, models[0])
        asked = [scheduler.submit(models[0], "log_prob", {"x": points(n)}, n) for n in (50, 51)]
        assert [ticket.n for ticket in scheduler._tickets] == [51]
        await asyncio.gather(*asked)

    within(LIMITS, models, use)


def test_a_run_that_fails_fails_for_those_in_it(models: list[LoadedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = models
    graph = far.graphs[far.program("log_prob").step]

    async def use(scheduler: Scheduler) -> list[Any]:
        monkeypatch.setattr(graph, "run", lambda *_: 1 / 0)
        asked = [scheduler.run(model, "log_prob", {"x": points(2)}) for model in (near, far, far)]
        return await asyncio.gather(*asked, return_exceptions=True)

    (good, *bad), _ = within(ROOMY, models, use)
    np.testing.assert_allclose(good["log_prob"], bundles.log_prob_of(points(2)), atol=1e-12)
    assert [type(error) for error in bad] == [ZeroDivisionError, ZeroDivisionError]


def test_a_cost_that_is_not_known_is_met_in_another_thread(models: list[LoadedModel]) -> None:
    async def use(scheduler: Scheduler) -> None:
        scheduler._predictions = scheduler._bursts._predictions = Predictions(0.005)
        asked = scheduler.submit(models[0], "log_prob", {"x": points(1)}, 1)
        assert scheduler._tickets
        await asked

    within(Limits(), models, use)
