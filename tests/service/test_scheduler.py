"""The scheduler against the closed forms of hand-made bundles: whatever shares a batch, answers are a row's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import InputError
from runtime.goldens import golden_questions
from runtime.model import LoadedModel, load_model
from runtime.rows import NotConvergedError
from service.errand import Errand
from service.errors import DeadlineExceeded, Draining, Overloaded
from service.scheduler import Limits, Scheduler
from tests import bundles
from tests.service.clock import Clock

# Unmeasured graphs are taken to cost 1 ms and 16 us a row: this caps a run at about four rows.
FOUR_ROWS = 0.00106
INLINE = Limits(run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0)
THREADED = Limits(run_seconds=FOUR_ROWS, inline_seconds=0.0, threads=2)


@pytest.fixture(scope="module")
def affine(tmp_path_factory) -> LoadedModel:
    return load_model(bundles.write(tmp_path_factory.mktemp("affine"), bundles.affine()))


@pytest.fixture(scope="module")
def counter(tmp_path_factory) -> LoadedModel:
    return load_model(bundles.write(tmp_path_factory.mktemp("counter"), bundles.counter()))


def address(seed: int, rows: range) -> dict[str, np.ndarray]:
    return {"seed": np.full(len(rows), seed), "row": np.array(rows)}


@asynccontextmanager
async def running(limits: Limits, **options: Any):
    scheduler = Scheduler(limits, **options)
    scheduler.start()
    try:
        yield scheduler
    finally:
        await scheduler.close()


def in_scheduler(limits: Limits, use: Callable[[Scheduler], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with running(limits, **options) as scheduler:
            return await use(scheduler)

    return asyncio.run(main())


REQUEST = st.tuples(
    st.booleans(),  # a question or a sample
    st.integers(0, 2**53 - 1),  # seed
    st.integers(0, 10_000),  # first row
    st.integers(1, 23),  # rows
    st.integers(0, 6),  # turns of the event loop to wait before it arrives
)


@pytest.mark.parametrize("limits", [INLINE, THREADED], ids=["inline", "threaded"])
@given(requests=st.lists(REQUEST, min_size=1, max_size=12))
def test_any_interleaving_gives_each_row_its_own_answer(limits, affine, counter, requests):
    async def ask(scheduler, question, seed, start, n, wait):
        for _ in range(wait):
            await asyncio.sleep(0)
        if question:
            x = np.random.default_rng([seed, start]).normal(size=(n, 2))
            answer = await scheduler.run(affine, "log_prob", {"x": x})
            np.testing.assert_allclose(answer["log_prob"], bundles.log_prob_of(x), rtol=1e-14)
            alone = affine.graphs["log_prob"].run({"x": x[-1:]})["log_prob"]
            assert answer["log_prob"][-1:].tobytes() == alone.tobytes()
        else:
            inputs = address(seed, range(start, start + n))
            answer = await scheduler.run(counter, "sample", inputs)
            np.testing.assert_array_equal(answer["x"], bundles.sample_of(inputs["seed"], inputs["row"]))

    async def use(scheduler):
        await asyncio.gather(*(ask(scheduler, *request) for request in requests))
        assert scheduler.rows_in_flight == 0
        assert scheduler.backlog_seconds == 0.0

    in_scheduler(limits, use)


def test_questions_that_wait_together_run_together(affine):
    seen = []

    async def use(scheduler):
        x = np.arange(20.0).reshape(10, 1, 2)
        answers = await asyncio.gather(*(scheduler.run(affine, "log_prob", {"x": row}) for row in x))
        np.testing.assert_allclose([a["log_prob"][0] for a in answers], bundles.log_prob_of(x[:, 0]))

    in_scheduler(Limits(), use, observe=lambda model, graph, rows, seconds: seen.append(rows))
    assert seen == [10]


def test_rows_at_different_steps_share_a_run(counter):
    runs = []

    async def use(scheduler):
        first = asyncio.ensure_future(scheduler.run(counter, "sample", address(1, range(4, 5))))
        while not any(graph == "count" for graph, _ in runs):
            await asyncio.sleep(0)
        await asyncio.gather(first, scheduler.run(counter, "sample", address(2, range(4, 5))))

    limits = Limits(inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0)  # one run a tick
    in_scheduler(limits, use, observe=lambda model, graph, rows, seconds: runs.append((graph, rows)))
    assert ("count", 2) in runs
    assert sum(rows for graph, rows in runs if graph == "count") == 10


@pytest.mark.parametrize("limits", [INLINE, THREADED], ids=["inline", "threaded"])
def test_a_lone_question_waits_for_few_runs_of_a_long_sample(limits, affine, counter):
    runs = []

    async def use(scheduler):
        long = asyncio.ensure_future(scheduler.run(counter, "sample", address(3, range(2000))))
        while len(runs) < 20:
            await asyncio.sleep(0)
        before = len(runs)
        await scheduler.run(affine, "log_prob", {"x": np.zeros((1, 2))})
        waited = runs[before:].index("log_prob")
        assert not long.done()
        await long
        # A tick's worth of runs may have begun before the question was seen; with threads, one a thread.
        assert waited <= 4 + limits.threads, waited

    limits = Limits(**{**limits.__dict__, "tick_seconds": 0.0})
    in_scheduler(limits, use, observe=lambda model, graph, rows, seconds: runs.append(graph))


def test_what_rows_do_between_runs_counts_in_a_turn_of_the_event_loop(counter):
    clock, turn, runs = Clock(), 0, []

    def watch(model, journeys):
        clock.now += 0.001

    async def use(scheduler):
        nonlocal turn
        sample = asyncio.ensure_future(
            scheduler.run(counter, "sample", address(1, range(60)), errand=Errand(watch=watch))
        )
        while not sample.done():
            turn += 1
            await asyncio.sleep(0)

    limits = Limits(run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.002)
    in_scheduler(limits, use, clock=clock, observe=lambda model, graph, rows, seconds: runs.append(turn))
    assert len(runs) > 10
    assert max(runs.count(each) for each in runs) <= 3


def test_a_question_goes_before_the_next_step_of_a_long_sample(affine, counter):
    runs = []

    async def use(scheduler):
        sample = asyncio.ensure_future(scheduler.run(counter, "sample", address(1, range(400))))
        while len(runs) < 5:
            await asyncio.sleep(0)
        before = len(runs)
        await scheduler.run(affine, "log_prob", {"x": np.zeros((1, 2))})
        assert runs[before] == affine.manifest.name
        await sample

    limits = Limits(run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0)
    in_scheduler(limits, use, observe=lambda model, graph, rows, seconds: runs.append(model.manifest.name))


def test_work_whose_deadline_has_passed_is_dropped_before_it_runs(affine):
    clock, runs = Clock(), []

    async def use(scheduler):
        late = asyncio.ensure_future(
            scheduler.run(affine, "log_prob", {"x": np.zeros((1, 2))}, errand=Errand(clock() + 1))
        )
        good = asyncio.ensure_future(
            scheduler.run(affine, "log_prob", {"x": np.ones((3, 2))}, errand=Errand(clock() + 3))
        )
        clock.now += 2
        with pytest.raises(DeadlineExceeded):
            await late
        assert len((await good)["log_prob"]) == 3

    in_scheduler(Limits(), use, clock=clock, observe=lambda model, graph, rows, seconds: runs.append(rows))
    assert runs == [3]


def test_a_caller_who_leaves_takes_his_work_along(counter):
    runs = []

    async def use(scheduler):
        task = asyncio.ensure_future(scheduler.run(counter, "sample", address(1, range(500))))
        while not runs:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert scheduler.rows_in_flight == 0
        at_cancel = len(runs)
        other = await scheduler.run(counter, "sample", address(9, range(1)))
        np.testing.assert_array_equal(other["x"], [[10.0, 1.0]])
        assert len(runs) <= at_cancel + 4  # what was under way, and the other's two or three

    limits = Limits(run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0)
    in_scheduler(limits, use, observe=lambda *run: runs.append(run))


def test_a_full_queue_refuses_and_a_lone_giant_does_not(counter):
    async def use(scheduler):
        giant = asyncio.ensure_future(scheduler.run(counter, "sample", address(1, range(300))))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refusal:
            await scheduler.run(counter, "sample", address(2, range(1)))
        assert 0.0 < refusal.value.retry_after <= scheduler.backlog_seconds
        assert scheduler.rows_in_flight == 300
        assert len((await giant)["x"]) == 300
        await scheduler.run(counter, "sample", address(2, range(1)))

    in_scheduler(Limits(rows=100, run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0), use)


def test_rows_in_flight_are_bounded_by_their_memory_too(counter):
    async def use(scheduler):
        scheduler.warm(counter, golden_questions(counter))
        giant = asyncio.ensure_future(scheduler.run(counter, "sample", address(1, range(300))))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await scheduler.run(counter, "sample", address(2, range(300)))
        small = scheduler.run(counter, "sample", address(2, range(1)))
        assert len((await small)["x"]) == 1
        assert len((await giant)["x"]) == 300

    # A row of the counter is its address, its state and its value: 33 bytes.
    in_scheduler(Limits(bytes=15_000, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0), use)


def test_what_could_not_be_done_in_time_is_refused_at_once(counter):
    async def use(scheduler):
        giant = asyncio.ensure_future(scheduler.run(counter, "sample", address(1, range(300))))
        await asyncio.sleep(0)
        ahead = scheduler.backlog_seconds
        with pytest.raises(Overloaded) as refusal:
            await scheduler.run(counter, "sample", address(2, range(1)), errand=Errand(scheduler.now() + ahead / 2))
        doubt = scheduler._backlog._doubt_of(2)
        assert 0.9 * (doubt - 0.5) * ahead < refusal.value.retry_after < 1.1 * (doubt - 0.5) * ahead
        # Somebody else does not wait for all of the giant: they take turns.
        other = Errand(scheduler.now() + ahead / 2, client="other")
        assert len((await scheduler.run(counter, "sample", address(2, range(1)), errand=other))["x"]) == 1
        assert not giant.done()
        await giant

    in_scheduler(
        Limits(run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0), use, clock=Clock()
    )


@pytest.mark.parametrize("rows", [400, 1])
def test_clients_take_turns_however_much_each_asks_for(counter, rows):
    """One with a giant, or with a hundred small requests, delays another by no more than his share."""
    ran = []

    async def use(scheduler):
        greedy = [
            asyncio.ensure_future(
                scheduler.run(counter, "sample", address(i, range(rows)), errand=Errand(client="greedy"))
            )
            for i in range(400 // rows)
        ]
        while len(ran) < 3:
            await asyncio.sleep(0)
        before = len(ran)
        await scheduler.run(counter, "sample", address(5, range(4, 9)), errand=Errand(client="modest"))
        assert not all(task.done() for task in greedy)
        # Its five rows need up to twelve runs of four, of which every second is its own.
        assert len(ran) - before <= 2 * 12 + 4
        await asyncio.gather(*greedy)

    limits = Limits(run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0)
    in_scheduler(limits, use, observe=lambda *run: ran.append(run))


def test_many_models_of_one_client_do_not_outweigh_another_s_one(tmp_path, counter, affine):
    others = [load_model(bundles.write(tmp_path, bundles.counter(name=f"counter-{i}"))) for i in range(8)]
    ran = []

    async def use(scheduler):
        greedy = [
            asyncio.ensure_future(
                scheduler.run(model, "sample", address(1, range(200)), errand=Errand(client="greedy"))
            )
            for model in others
        ]
        while len(ran) < 3:
            await asyncio.sleep(0)
        before = len(ran)
        await scheduler.run(counter, "sample", address(5, range(40)), errand=Errand(client="modest"))
        mine = sum(name == "counter" for name in ran[before:])
        assert mine / len(ran[before:]) > 0.4
        await asyncio.gather(*greedy)

    limits = Limits(run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0)
    in_scheduler(limits, use, observe=lambda model, graph, rows, seconds: ran.append(model.manifest.name))


def test_what_is_short_is_not_held_up_by_what_is_long_of_the_same_client(counter):
    done = []

    async def ask(scheduler, rows):
        await scheduler.run(counter, "sample", address(1, range(rows)))
        done.append(rows)

    async def use(scheduler):
        await ask(scheduler, 10)  # from now on costs are known
        await asyncio.gather(*(ask(scheduler, rows) for rows in (40, 2, 160, 15)))

    one_row = Limits(run_seconds=1e-9, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0)
    in_scheduler(one_row, use)
    assert done == [10, 2, 15, 40, 160]


def test_a_client_s_urgent_work_goes_before_his_other_work_and_nobody_else_s(counter):
    done = []

    async def ask(scheduler, name, client, urgency):
        errand = Errand(client=client, urgency=urgency)
        await scheduler.run(counter, "sample", address(len(name), range(60)), errand=errand)
        done.append(name)

    async def use(scheduler):
        await asyncio.gather(
            ask(scheduler, "backfill", "mine", 7),
            ask(scheduler, "page", "mine", 0),
            ask(scheduler, "theirs", "other", 3),
        )

    in_scheduler(Limits(run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0, tick_seconds=0.0), use)
    assert done[-1] == "backfill"


def test_a_run_that_nobody_waits_for_is_ended(tmp_path):
    """A run of several seconds, whose caller leaves: the thread is free again long before it would have ended."""
    slow = load_model(bundles.write(tmp_path, bundles.slow()))

    async def use(scheduler):
        task = asyncio.ensure_future(scheduler.run(slow, "log_prob", {"x": np.zeros((1, 2))}))
        while scheduler._places > THREADED.threads:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while scheduler._places <= THREADED.threads:
            await asyncio.sleep(0.001)
        return outcomes

    outcomes = []
    finish = Scheduler._finish

    def watched(self, lane, batch, seconds, outcome):
        outcomes.append(outcome)
        return finish(self, lane, batch, seconds, outcome)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scheduler, "_finish", watched)
        in_scheduler(THREADED, use)
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], Exception)
    assert "terminate" in str(outcomes[0])


def test_a_run_that_somebody_still_waits_for_goes_on(tmp_path):
    slow = load_model(bundles.write(tmp_path, bundles.slow(iterations=20)))

    async def use(scheduler):
        leaves, stays = (
            asyncio.ensure_future(scheduler.run(slow, "log_prob", {"x": np.full((1, 2), value)}))
            for value in (1.0, 2.0)
        )
        while scheduler._places > THREADED.threads:
            await asyncio.sleep(0.001)
        leaves.cancel()
        np.testing.assert_allclose((await stays)["log_prob"], [4.0])

    in_scheduler(THREADED, use)


def test_progress_is_told_step_by_step(counter):
    seen = []

    def watch(model, journeys):
        assert model is counter
        seen.append([int(rows.runs_left) for rows in journeys])

    async def use(scheduler):
        answer = await scheduler.run(counter, "sample", address(1, range(6)), errand=Errand(watch=watch))
        assert len(answer["x"]) == 6

    in_scheduler(Limits(run_seconds=FOUR_ROWS, inline_seconds=1.0, soon_seconds=1.0), use)
    assert len({len(left) for left in seen}) == 1
    left = [sum(row) for row in seen]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0


def test_an_idle_service_remembers_no_client(counter):
    async def use(scheduler):
        await asyncio.gather(
            *(
                scheduler.run(counter, "sample", address(1, range(3)), errand=Errand(client=f"client {i}"))
                for i in range(20)
            )
        )
        assert not scheduler._turns.flows
        assert not scheduler._turns.lanes

    in_scheduler(INLINE, use)


def test_draining_finishes_what_was_admitted_and_takes_no_more(counter):
    async def use(scheduler):
        task = asyncio.ensure_future(scheduler.run(counter, "sample", address(1, range(50))))
        await asyncio.sleep(0)
        drained = asyncio.ensure_future(scheduler.drain())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await scheduler.run(counter, "sample", address(2, range(1)))
        await drained
        assert len((await task)["x"]) == 50

    in_scheduler(INLINE, use)


def test_closing_leaves_no_caller_waiting(counter):
    async def main():
        async with running(THREADED) as scheduler:
            task = asyncio.ensure_future(scheduler.run(counter, "sample", address(1, range(500))))
            await asyncio.sleep(0)
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError)

    asyncio.run(main())


def test_input_that_does_not_fit_changes_nothing(affine):
    async def use(scheduler):
        with pytest.raises(InputError, match="column 'x'"):
            await scheduler.run(affine, "log_prob", {"x": np.zeros((3, 5))})
        assert scheduler.rows_in_flight == 0

    in_scheduler(Limits(), use)


def test_a_row_that_does_not_converge_fails_alone(tmp_path, counter):
    fields, files = bundles.counter(name="hasty")
    fields["capabilities"]["sample"]["steps"] = {"default": 3, "allowed": [3]}
    hasty = load_model(bundles.write(tmp_path, (fields, files)))

    async def use(scheduler):
        slow, quick = address(1, range(3, 4)), address(1, range(2, 3))
        outcomes = await asyncio.gather(
            scheduler.run(hasty, "sample", slow), scheduler.run(hasty, "sample", quick), return_exceptions=True
        )
        assert isinstance(outcomes[0], NotConvergedError)
        np.testing.assert_array_equal(outcomes[1]["x"], bundles.sample_of(**quick))

    in_scheduler(Limits(), use)


def test_a_graph_that_fails_fails_its_batch_and_nothing_else(affine):
    async def use(scheduler):
        model = affine
        bad = scheduler.run(model, "log_prob", {"x": np.zeros((1, 2))})
        session = model.graphs["log_prob"]
        run, calls = session.run, []

        def failing(feeds, options):
            calls.append(len(feeds["x"]))
            if len(calls) == 1:
                raise RuntimeError("out of memory")
            return run(feeds, options)

        session.run = failing
        try:
            with pytest.raises(RuntimeError, match="out of memory"):
                await bad
            good = await scheduler.run(model, "log_prob", {"x": np.zeros((1, 2))})
        finally:
            del session.run
        np.testing.assert_allclose(good["log_prob"], bundles.log_prob_of(np.zeros((1, 2))))

    in_scheduler(Limits(), use)


def test_warming_up_measures_every_graph(affine, counter):
    async def use(scheduler):
        unmeasured = scheduler.predicted_seconds(affine, "log_prob", 1)
        for model in (affine, counter):
            scheduler.warm(model, golden_questions(model))
        assert 0 < scheduler.predicted_seconds(affine, "log_prob", 1) != unmeasured
        assert scheduler.predicted_seconds(counter, "sample", 64) >= scheduler.predicted_seconds(counter, "sample", 1)
        scheduler.forget(affine)
        assert scheduler.predicted_seconds(affine, "log_prob", 1) == unmeasured

    in_scheduler(Limits(), use)
