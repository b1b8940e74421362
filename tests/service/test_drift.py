"""The watch of served scores: each is seen once and in order, at little cost, and the metrics show how it stands."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from contract.drift import CHUNK, Martingale, OnlineRanks
from service.drift import WINDOW, Drift, Watch
from service.telemetry import Metrics
from tests.bundles import write
from tests.service.catalogues import started
from tests.service.whole import CALIBRATION as CALIBRATION_OF_NORMAL
from tests.service.whole import dots, normal

CALIBRATION = np.sort(np.random.default_rng(0).normal(size=200))
SEED = 5


def watched(level: float = 0.01) -> Watch:
    return Watch(CALIBRATION, seed=SEED, level=level)


def test_nothing_is_bet_on_rows_that_depend_on_each_other() -> None:
    plain, dependent = watched(), Watch(CALIBRATION, seed=SEED, level=0.01, dependent=True)
    for watch in (plain, dependent):
        watch.add(np.full(2 * WINDOW, 9.0))
        watch.look()
    assert plain.alarm_at is not None
    assert dependent.alarm_at is None
    assert (dependent.log10_martingale, dependent.log10_highest) == (None, None)
    assert dependent.rows == plain.rows == 2 * WINDOW
    assert dependent.distance() == plain.distance()


def path_of(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The martingale's logarithm after each score, without a watch."""
    ranks, martingale = OnlineRanks(CALIBRATION, np.random.Generator(np.random.PCG64(SEED))), Martingale()
    return np.concatenate([martingale(ranks(scores[i : i + CHUNK])) for i in range(0, len(scores), CHUNK)])


@given(st.lists(st.one_of(st.integers(1, 3), st.integers(1, 3 * CHUNK)), min_size=1, max_size=25), st.data())
def test_every_score_is_seen_once_and_in_order(sizes: list[int], data: st.DataObject) -> None:
    scores = np.random.default_rng(1).normal(size=sum(sizes))
    watch = watched()
    for part in np.split(scores, np.cumsum(sizes)[:-1]):
        watch.add(part)
        match data.draw(st.sampled_from(["wait", "some", "all"])):
            case "some":
                watch.look(2 * CHUNK)
            case "all":
                watch.look()
                assert watch.waiting == 0
    watch.look()
    assert watch.rows == len(scores)
    assert watch.log10_martingale * np.log(10) == pytest.approx(path_of(scores)[-1], abs=1e-9)
    assert watch.log10_highest * np.log(10) == pytest.approx(max(0.0, path_of(scores).max()), abs=1e-9)
    assert watch.window == min(WINDOW, len(scores))
    distance = watch.distance()
    assert distance is not None
    last = stats.ks_2samp(CALIBRATION, scores[-WINDOW:])
    assert distance[0] == pytest.approx(last.statistic, abs=1e-14)


def test_scores_are_copied() -> None:
    scores = np.zeros(5)
    watch, same = watched(), watched()
    watch.add(scores)
    same.add(np.zeros(5))
    scores[:] = 99.0
    watch.look()
    same.look()
    assert watch.distance() == same.distance()


def test_single_precision_is_as_good() -> None:
    watch, same = watched(), watched()
    scores = np.random.default_rng(2).normal(size=1000).astype(np.float32)
    watch.add(scores)
    for score in scores:
        same.add(np.array([score], dtype=np.float64))
    watch.look()
    same.look()
    assert watch.log10_martingale == pytest.approx(same.log10_martingale, abs=1e-9)
    assert watch.distance() == same.distance()


def test_what_is_kept_does_not_grow() -> None:
    watch = watched()

    def kept() -> int:
        parts = [*vars(watch).values(), *vars(watch._ranks).values(), *vars(watch._martingale).values()]
        return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))

    watch.add(np.zeros(1))
    watch.look()
    small = kept()
    for _ in range(20):
        watch.add(np.random.default_rng(3).normal(size=10_000))
        watch.look()
    assert kept() == small


def test_nothing_is_known_before_the_first_row() -> None:
    watch = watched()
    watch.look()
    assert (watch.rows, watch.since, watch.alarm_at, watch.window, watch.distance()) == (0, None, None, 0, None)
    assert watch.log10_martingale == watch.log10_highest == 0.0


def test_the_alarm_tells_its_row_and_stays() -> None:
    random = np.random.default_rng(4)
    scores = np.concatenate([random.normal(size=700), random.normal(size=300) + 2.0, random.normal(size=5000)])
    watch = watched()
    watch.add(scores)
    watch.look()
    path = path_of(scores)
    assert watch.alarm_at == 1 + int(np.argmax(path >= np.log(100.0)))
    assert 700 < watch.alarm_at <= 1000
    strict = watched(level=1e-6)
    strict.add(scores)
    strict.look()
    assert strict.alarm_at is not None
    assert strict.alarm_at > watch.alarm_at


def test_a_large_answer_is_looked_at_in_several_turns_and_nothing_is_left(root: Path) -> None:
    write(root, normal())

    async def act() -> None:
        async with started(root) as catalogue:
            drift, model = Drift(catalogue, level=0.01), catalogue.get("normal")
            scores = np.random.default_rng(7).normal(size=40 * CHUNK + 7)
            drift.observe(model, scores[: 20 * CHUNK])
            assert drift.of(model).rows == 4 * CHUNK
            drift.observe(model, scores[20 * CHUNK :])  # one more keeps its place behind it
            seen = [drift.of(model).rows]
            while drift.of(model).waiting:
                await asyncio.sleep(0)
                seen.append(drift.of(model).rows)
            assert seen == [*range(4 * CHUNK, 40 * CHUNK, 4 * CHUNK), len(scores)]
            drift.observe(model, scores)
            watch = await drift.caught_up(model)
            assert watch.rows == 2 * len(scores)
            at_once = Watch(CALIBRATION_OF_NORMAL, seed=int(model.digest, 16), level=0.01)
            at_once.add(np.tile(scores, 2))
            at_once.look()
            assert watch.log10_martingale == pytest.approx(at_once.log10_martingale, abs=1e-9)

    asyncio.run(act())


def test_what_waits_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.drift._MOST_WAITING", 10 * CHUNK)
    write(root, normal())

    async def act() -> None:
        async with started(root) as catalogue:
            drift, model = Drift(catalogue, level=0.01), catalogue.get("normal")
            for i in range(1, 30):  # and the loop has no turn between them
                drift.observe(model, np.zeros(6 * CHUNK))
                assert drift.of(model).waiting <= 10 * CHUNK
                assert drift.of(model).rows + drift.of(model).waiting == i * 6 * CHUNK
            assert (await drift.caught_up(model)).waiting == 0

    asyncio.run(act())


def test_another_bundle_starts_afresh_and_one_that_is_gone_leaves_the_metrics(root: Path) -> None:
    write(root, normal())
    write(root, normal(version=2))
    write(root, dots())

    async def act() -> None:
        async with started(root) as catalogue:
            drift, metrics = Drift(catalogue, level=0.01, workers=4), Metrics()
            drift.tell(metrics)
            first, second = catalogue.get("normal", 1), catalogue.get("normal", 2)
            drift.observe(first, np.full(500, 1e6))
            assert drift.of(first).alarm_at is not None
            assert drift.of(first).level == 0.0025
            assert drift.of(second).rows == 0
            assert shown(metrics) == {
                ("nonesuch_drift_ks", "1"): 1.0,
                ("nonesuch_drift_alarm", "1"): 1.0,
                ("nonesuch_drift_alarm", "2"): 0.0,
                ("nonesuch_drift_log10_martingale", "1"): pytest.approx(drift.of(first).log10_martingale),
                ("nonesuch_drift_log10_martingale", "2"): 0.0,
            }
            for file in (root / "normal" / "1").iterdir():
                file.unlink()
            (root / "normal" / "1").rmdir()
            await catalogue.refresh()
            assert {version for _, version in shown(metrics)} == {"2"}

    asyncio.run(act())


def shown(metrics: Metrics) -> dict[tuple[str, str], Any]:
    metrics.refresh()
    found = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name.startswith("nonesuch_drift"):
                assert sample.labels["model"] == "normal"
                found[sample.name, sample.labels["version"]] = sample.value
    return found


def test_the_same_rows_give_the_same_figures(root: Path) -> None:
    """The coins are those of the bundle, whichever process tosses them."""
    write(root, normal())
    # Equal to calibration scores, all of them: what tells them apart is coins alone.
    scores = np.resize(CALIBRATION_OF_NORMAL, 600)

    async def figure() -> float:
        async with started(root) as catalogue:
            drift, model = Drift(catalogue, level=0.01), catalogue.get("normal")
            drift.observe(model, scores)
            return drift.of(model).log10_martingale

    assert asyncio.run(figure()) == asyncio.run(figure())
