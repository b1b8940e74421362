"""The use cases: validate, look into the cache, schedule, shape the answer. No HTTP in here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from contract.capabilities import Capability
from contract.errors import InputError
from contract.programs import Program
from contract.randomness import ADDRESS_LIMIT
from runtime.model import LoadedModel
from runtime.rows import NotConvergedError, environment
from service.answers import (
    USUAL_ALARMS,
    Alarms,
    answer_head,
    answer_of,
    classify_answer,
    columns_of,
    condition_of,
    log_prob_answer,
    score_answer,
)
from service.cache import RowCache
from service.catalogue import Catalogue
from service.errand import PLAIN, Errand
from service.errors import DeadlineExceeded, NotSupported, TooLarge
from service.explanations import Explainer, method_of
from service.knobs import Knobs, read_knobs
from service.partial import Partial, filling_of, read_given, summed_out
from service.reading import Given, read_codes, read_partial, read_rows, read_seed
from service.scheduler import Scheduler

__all__ = ["Answer", "CacheUse", "Operations"]

Env = dict[str, NDArray[Any]]
CacheUse = Literal["hit", "partial", "miss", "bypass"]

# A JSON number with its comma: one digit for small integers, up to 24 characters for a double.
_JSON_BYTES = {"uint8": 4, "float32": 14, "int64": 21, "bool": 6}


@dataclass(frozen=True)
class Answer:
    """What an operation found.

    Attributes:
        body: the answer by field; arrays are numpy arrays, [n, …] per row.
        model: the model that gave it.
        cache: whether rows came from the cache: all, some, none, or it was not worth a look.
    """

    body: dict[str, Any]
    model: LoadedModel
    cache: CacheUse


class Operations:
    """What can be asked of the service.

    Args:
        catalogue: models by name and version.
        scheduler: runs programs.
        cache: rows already computed.
        max_answer_bytes: answers predicted to be larger are refused.
    """

    def __init__(self, catalogue: Catalogue, scheduler: Scheduler, cache: RowCache, *, max_answer_bytes: int):
        self._catalogue = catalogue
        self._scheduler = scheduler
        self._cache = cache
        self._max_answer_bytes = max_answer_bytes
        self._explainer = Explainer()
        self._as_json = True

    @cached_property
    def raw(self) -> Self:
        """The same use cases for answers that leave as raw numbers, of which more fit than of JSON's."""
        other = copy(self)
        other._as_json = False
        return other

    # -- the use cases ---------------------------------------------------------------------------------------------

    async def sample(
        self,
        model: str,
        version: int | None = None,
        *,
        n: int = 1,
        seed: int | None = None,
        start: int = 0,
        condition: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        given: Mapping[str, Any] | None = None,
        errand: Errand = PLAIN,
    ) -> Answer:
        """Rows ``start … start + n - 1`` of ``seed``, which is chosen when absent; ``given`` are columns by name.

        Raises:
            UnknownModel, NotSupported, InputError, TooLarge, and what ``Scheduler.run`` raises.
        """
        capability: Capability = "inpaint" if given else "sample"
        loaded, program = self._find(model, version, capability)
        self._check_size(program, n)
        chosen = read_seed(seed, start, n)
        knobs = read_knobs(program, n, parameters=parameters, condition=condition)
        about: dict[str, Any] = {}
        if given:
            known = read_given(loaded.manifest.support, given)
            about = {"given": dict(given), **filling_of(program, known), "exact": known.exact(program.filling)[0]}
            inputs = known.repeated(program, n, chosen, start)
        else:
            inputs = {
                "seed": np.full(n, chosen, dtype=np.int64),
                "row": np.arange(start, start + n, dtype=np.int64),
            }
        outputs, cache = await self._rows(loaded, capability, inputs, errand, knobs)
        body = {
            **answer_head(loaded),
            "seed": chosen,
            "start": start,
            "n": n,
            "parameters": knobs.parameters,
            **condition_of(knobs),
            **about,
            **columns_of(loaded),
            "rows": answer_of(program, outputs, "sample"),
        }
        return Answer(body, loaded, cache)

    async def inpaint(
        self,
        model: str,
        version: int | None = None,
        *,
        rows: Given | None = None,
        records: Sequence[Mapping[str, Any]] | None = None,
        n: int = 1,
        seed: int | None = None,
        start: int = 0,
        condition: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        errand: Errand = PLAIN,
    ) -> Answer:
        """Each row ``n`` times, its holes filled: draws ``start … start + n - 1`` of ``seed``, chosen when absent.

        Raises:
            UnknownModel, NotSupported, InputError, TooLarge, and what ``Scheduler.run`` raises.
        """
        loaded, program = self._find(model, version, "inpaint")
        known = await read_partial(loaded.manifest.support, rows, records)
        self._check_size(program, len(known.x) * n)
        chosen = read_seed(seed, start, n)
        knobs = read_knobs(program, len(known.x), parameters=parameters, condition=condition)
        inputs = known.repeated(program, n, chosen, start)
        each = knobs.at(np.repeat(np.arange(len(known.x)), n))
        outputs, cache = await self._rows(loaded, "inpaint", inputs, errand, each)
        body = {
            **answer_head(loaded),
            "seed": chosen,
            "start": start,
            "n": n,
            "parameters": knobs.parameters,
            **condition_of(knobs),
            **filling_of(program, known),
            **columns_of(loaded),
            "rows": answer_of(program, outputs, "sample"),
        }
        return Answer(body, loaded, cache)

    async def log_prob(
        self,
        model: str,
        version: int | None = None,
        *,
        rows: Given | None = None,
        records: Sequence[Mapping[str, Any]] | None = None,
        seed: int | None = None,
        condition: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        trace: bool = False,
        errand: Errand = PLAIN,
    ) -> Answer:
        """The log-probability of each row, with its kind and error, in nats of the original units.

        A stochastic one draws at ``seed``, 0 when absent, and a hash of the row's bytes. Where the model knows the law
        of some coordinates by themselves, the others may be left out of a row, and are summed out. ``trace`` asks for
        the terms that each number is the sum of.

        Raises:
            UnknownModel, NotSupported, InputError, TooLarge, and what ``Scheduler.run`` raises.
        """
        loaded, program = self._find(model, version, "log_prob")
        if trace and not any(part.name == "trace" for part in program.outputs):
            raise InputError(
                column="trace",
                expected="false or nothing, for this model's log_prob is no sum of terms that are known",
                got="true",
            )
        if "marginal" in loaded.manifest.capabilities:
            known = await read_partial(loaded.manifest.support, rows, records)
            x = known.x
        else:
            known, x = None, await read_rows(loaded.manifest.support, rows, records)
        knobs = read_knobs(program, len(x), parameters=parameters, condition=condition)
        inputs: Env = {"x": x}
        if program.input("seed") is not None:
            chosen = 0 if seed is None else seed
            if not 0 <= chosen < ADDRESS_LIMIT:
                raise InputError(column="seed", expected="a whole number from 0 to 2**53 - 1", got=str(chosen))
            inputs["seed"] = np.full(len(x), chosen, dtype=np.int64)
        elif seed is not None:
            raise InputError(column="seed", expected="no seed, for this model's log_prob draws nothing", got=str(seed))
        if known is not None and not known.whole.all():
            if trace:
                raise InputError(column="trace", expected="rows without values left out, or no trace", got="true")
            values, cache = await self._marginals(loaded, known, errand, knobs)
            body = log_prob_answer(loaded, program, {"log_prob": values}, knobs)
            return Answer({**body, **summed_out(loaded.manifest.support, known, values)}, loaded, cache)
        # Terms take hundreds of times the room of their sum: they are no part of what the cache keeps.
        if trace:
            self._check_size(program, len(x))
        left_out = () if trace else ("trace",)
        outputs, cache = await self._rows(loaded, "log_prob", inputs, errand, knobs, kept=not trace, left_out=left_out)
        seed = int(inputs["seed"][0]) if "seed" in inputs else None
        body = log_prob_answer(loaded, program, outputs, knobs, seed, trace=trace)
        return Answer(body, loaded, cache)

    async def encode(
        self,
        model: str,
        version: int | None = None,
        *,
        rows: Given | None = None,
        records: Sequence[Mapping[str, Any]] | None = None,
        condition: Mapping[str, Any] | None = None,
        errand: Errand = PLAIN,
    ) -> Answer:
        """The code of each row.

        Raises:
            UnknownModel, NotSupported, InputError, TooLarge, and what ``Scheduler.run`` raises.
        """
        loaded, program = self._find(model, version, "encode")
        x = await read_rows(loaded.manifest.support, rows, records)
        self._check_size(program, len(x))
        knobs = read_knobs(program, len(x), parameters=None, condition=condition)
        outputs, cache = await self._rows(loaded, "encode", {"x": x}, errand, knobs)
        output = next(part for part in program.outputs if part.kind == "code")
        body = {**answer_head(loaded), "kind": output.description, **condition_of(knobs), "codes": outputs[output.name]}
        if "scale" in outputs:
            body["scale"] = outputs["scale"]
        return Answer(body, loaded, cache)

    async def decode(
        self,
        model: str,
        version: int | None = None,
        *,
        codes: Given,
        condition: Mapping[str, Any] | None = None,
        errand: Errand = PLAIN,
    ) -> Answer:
        """The row of each code.

        Raises:
            UnknownModel, NotSupported, InputError, TooLarge, and what ``Scheduler.run`` raises.
        """
        loaded, program = self._find(model, version, "decode")
        z = await read_codes(program, codes)
        self._check_size(program, len(z))
        knobs = read_knobs(program, len(z), parameters=None, condition=condition)
        outputs, cache = await self._rows(loaded, "decode", {"z": z}, errand, knobs)
        rows = answer_of(program, outputs, "sample")
        body = {**answer_head(loaded), **condition_of(knobs), **columns_of(loaded), "rows": rows}
        return Answer(body, loaded, cache)

    async def anomaly_score(
        self,
        model: str,
        version: int | None = None,
        *,
        rows: Given | None = None,
        records: Sequence[Mapping[str, Any]] | None = None,
        alarms: Alarms = USUAL_ALARMS,
        explain: bool = False,
        errand: Errand = PLAIN,
    ) -> Answer:
        """Anomaly scores with conformal p-values, and the alarms and discoveries that are asked for.

        ``explain`` asks for the contributions of columns to the log-probability, which take more runs.

        Raises:
            UnknownModel, NotSupported, InputError, TooLarge, and what ``Scheduler.run`` raises.
        """
        loaded, program = self._find(model, version, "score")
        alarms.check()
        alarms.check_label(loaded.manifest.calibration)
        alarms.check_promises(loaded.manifest.calibration)
        if explain:
            method_of(loaded)  # refuses before anything runs
        x = await read_rows(loaded.manifest.support, rows, records)
        # At the default number of steps and without a condition, as the calibration rows were scored.
        knobs = read_knobs(program, len(x), parameters=None, condition=None)
        outputs, cache = await self._rows(loaded, "score", {"x": x}, errand, knobs)
        body = score_answer(loaded, program, outputs, alarms)
        if explain:
            self._check_size(loaded.program("log_prob"), len(x))
            body |= await self._explainer.explain(loaded, x, partial(self._plainly, errand))
        return Answer(body, loaded, cache)

    async def classify(
        self,
        model: str,
        version: int | None = None,
        *,
        rows: Given | None = None,
        records: Sequence[Mapping[str, Any]] | None = None,
        errand: Errand = PLAIN,
    ) -> Answer:
        """The probability of each label given each row, by Bayes' rule.

        Raises:
            UnknownModel, NotSupported, InputError, TooLarge, and what ``Scheduler.run`` raises.
        """
        loaded, program = self._find(model, version, "classify")
        x = await read_rows(loaded.manifest.support, rows, records)
        self._check_size(program, len(x))
        knobs = read_knobs(program, len(x), parameters=None, condition=None)
        outputs, cache = await self._rows(loaded, "classify", {"x": x}, errand, knobs)
        return Answer(classify_answer(loaded, program, outputs), loaded, cache)

    # -- shared steps ----------------------------------------------------------------------------------------------

    def _find(self, name: str, version: int | None, capability: Capability) -> tuple[LoadedModel, Program]:
        loaded = self._catalogue.get(name, version)
        program = loaded.manifest.capabilities.get(capability)
        if program is None:
            raise NotSupported(name, capability, loaded.manifest.reasons[capability])
        return loaded, program

    async def _marginals(
        self, model: LoadedModel, known: Partial, errand: Errand, knobs: Knobs
    ) -> tuple[NDArray[np.float64], CacheUse]:
        """log p of what is known of each row. A whole row goes its usual way, so that no neighbour moves its bits."""
        values = np.empty(len(known.x))
        uses: set[CacheUse] = set()
        parts: dict[Capability, NDArray[np.int64]] = {
            "log_prob": np.flatnonzero(known.whole),
            "marginal": np.flatnonzero(~known.whole),
        }
        for capability, rows in parts.items():
            if len(rows):
                some = known.at(rows)
                inputs = {"x": some.x} if capability == "log_prob" else some.inputs(model.program("marginal"))
                outputs, use = await self._rows(model, capability, inputs, errand, knobs.at(rows))
                values[rows] = outputs["log_prob"]
                uses.add(use)
        return values, uses.pop() if len(uses) == 1 else "partial"

    async def _plainly(self, errand: Errand, model: LoadedModel, capability: Capability, inputs: Env) -> Env:
        """The program's outputs where nobody has set anything, past the cache."""
        n = len(next(iter(inputs.values())))
        knobs = read_knobs(model.program(capability), n, parameters=None, condition=None)
        return (await self._rows(model, capability, inputs, errand, knobs, kept=False))[0]

    def _check_size(self, program: Program, n: int) -> None:
        per_row = sum(
            int(np.prod(part.shape)) * _JSON_BYTES.get(part.dtype, 24) + 8
            if self._as_json
            else int(np.prod(part.shape)) * np.dtype(part.dtype).itemsize
            for part in program.outputs
            if part.shape
        )
        most = max(1, self._max_answer_bytes // max(1, per_row))
        if n > most:
            raise TooLarge(n, most, self._max_answer_bytes)

    async def _rows(
        self,
        model: LoadedModel,
        capability: Capability,
        inputs: Env,
        errand: Errand,
        knobs: Knobs,
        *,
        kept: bool = True,
        left_out: Sequence[str] = (),
    ) -> tuple[Env, CacheUse]:
        """The program's outputs for each row, from the cache where that is cheaper than computing.

        Args:
            model: the model.
            capability: one that it has.
            inputs: by name, [n, ...].
            errand: who waits, and for how long.
            knobs: what the request set.
            kept: whether the cache is asked at all.
            left_out: outputs that are not wanted.
        """
        program = model.program(capability)
        n = len(next(iter(inputs.values())))
        env = environment(program, {**inputs, **knobs.inputs}, n)
        steps = knobs.steps

        async def compute(positions: NDArray[np.int64]) -> Env:
            some = len(positions) < n
            wanted = {name: value[positions] for name, value in env.items()} if some else env
            each = steps[positions] if some and steps is not None else steps
            try:
                outputs = await self._scheduler.submit(
                    model, capability, wanted, len(positions), steps=each, errand=errand
                )
                return {name: value for name, value in outputs.items() if name not in left_out}
            except NotConvergedError as error:
                raise InputError(expected="a row whose steps converge", got=str(error)) from None

        seconds = self._scheduler.predicted_seconds(model, capability, n, steps)
        deadline = errand.deadline
        # The scheduler drops rows by itself; this also bounds the wait for a twin's rows and for a long run's end.
        try:
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - self._scheduler.now())):
                # Who watches wants to see all rows being made.
                if not kept or errand.watch is not None or not self._cache.worth_asking(n, seconds):
                    return await compute(np.arange(n)), "bypass"
                keys = await self._cache.keys(
                    program_digest=model.program_digest(capability),
                    profile=model.profile,
                    operation=capability,
                    inputs=env if steps is None else {**env, program.steps.parameter: steps},
                )
                layout = {
                    part.name: (np.dtype(part.dtype), part.shape)
                    for part in program.outputs
                    if part.name not in left_out
                }
                outputs, report = await self._cache.fetch(keys, layout, compute, compute_seconds=seconds)
                return outputs, report.outcome
        except TimeoutError:
            raise DeadlineExceeded() from None
