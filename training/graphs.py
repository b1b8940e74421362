"""What each capability of a model is: graphs with named inputs and outputs, and a program over them.

Nothing here knows a family: everything is read off the protocols of ``models/base.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from contract.capabilities import Capability
from contract.programs import KNOWN, NEXT, DType, Output, OutputError, Program, ProgramInput, State, Steps
from models.base import GenerativeModel, capabilities, has_bound
from models.nets.importance import ACCUMULATORS, ImportanceBound
from models.protocols import (
    HasBound,
    HasClassify,
    HasCode,
    HasEncodeWithScale,
    HasFreeEnergy,
    HasInpaint,
    HasLatent,
    HasLogProb,
    HasSample,
    HasStepDecoder,
    HasStepInpainter,
    HasStepSampler,
    HasTrace,
)
from runtime.rows import Rows
from training.statistics.score import AnomalyScore

__all__ = ["GraphModule", "answers_in_torch", "model_graphs", "model_programs", "score_graph"]

MOST_SAMPLES = 10_000
"""The largest K of an importance-weighted bound that a request may ask for."""

_TORCH: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
_SEED = State(name="seed", dtype="int64")
_ROW = State(name="row", dtype="int64")
_T = State(name="t", dtype="int64")
_FREE_ENERGY = Output(
    name="free_energy",
    dtype="float64",
    kind="statistic",
    units="nats",
    description="minus the logarithm of what is proportional to the probability: log_prob = -free_energy - log Z",
)
_TRACE = Output(
    name="trace",
    dtype="float64",
    kind="statistic",
    units="nats",
    description="log-probability of each coordinate, pixel or sample given the earlier ones; they add up to log_prob",
)
_SCALE = {
    "name": "scale",
    "description": "standard deviation of the law of codes given the row, of which z is the mean",
}


class GraphModule(nn.Module):
    """One method of a module as a graph: named per-row inputs in, named per-row outputs out.

    It also runs, under the interface of ``runtime.session.GraphSession``, so that one loop drives both.

    Args:
        module: what holds the weights.
        method: name of the method; it takes the inputs in order.
        inputs: names, dtypes and shapes per row.
        outputs: names, in the order in which the method returns them.
        keep: positions of the returned values to give out; all of them if None.
    """

    def __init__(
        self,
        module: nn.Module,
        method: str,
        inputs: Sequence[State],
        outputs: Sequence[str],
        keep: Sequence[int] | None = None,
    ):
        super().__init__()
        self.module = module
        self.method = method
        self.ports = tuple(inputs)
        self.keep = tuple(range(len(outputs)) if keep is None else keep)
        self.names = tuple(outputs[i] for i in self.keep)

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        """Arguments [n, ...] in the order of ``ports`` -> outputs [n, ...] in the order of ``names``."""
        value = getattr(self.module, self.method)(*arguments)
        values = value if isinstance(value, tuple) else (value,)
        return tuple(values[i] for i in self.keep)

    def examples(self, n: int) -> tuple[Tensor, ...]:
        """Arguments of n rows to trace with."""
        # Ones where they can be, since not everything is defined at zero: a positive column, a temperature.
        makers = {"float64": torch.ones}
        return tuple(
            makers.get(port.dtype, torch.zeros)(n, *port.shape, dtype=_TORCH[port.dtype]) for port in self.ports
        )

    @torch.no_grad()
    def run(self, env: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Arrays [n, ...] by name -> arrays [n, ...] by name, an updated state under the state's own name."""
        arguments = (torch.from_numpy(np.ascontiguousarray(env[port.name], dtype=port.dtype)) for port in self.ports)
        return {
            name.removeprefix(NEXT): value.numpy() for name, value in zip(self.names, self(*arguments), strict=True)
        }


def model_graphs(model: GenerativeModel) -> dict[str, GraphModule]:
    """Every graph that the model's capabilities need, by name."""
    has = capabilities(model)
    x = State(name="x", dtype=cast(DType, model.support.dtype), shape=model.support.shape)
    given = [_port(part) for part in model.conditions]
    graphs: dict[str, GraphModule] = {}
    if has_bound(model):
        bound, state = ImportanceBound(model, len(given)), [*cast(HasBound, model).bound_state, *ACCUMULATORS]
        graphs["log_prob_init"] = GraphModule(bound, "init", [x, *given], [part.name for part in state])
        graphs["log_prob_step"] = GraphModule(
            bound, "step", [x, _SEED, _ROW, _T, *given, *state], [NEXT + part.name for part in ACCUMULATORS]
        )
    elif isinstance(model, HasFreeEnergy):
        graphs["log_prob"] = GraphModule(
            model, "log_prob_and_free_energy", [x, *given], ["log_prob", _FREE_ENERGY.name]
        )
    elif isinstance(model, HasTrace):
        graphs["log_prob"] = GraphModule(model, "log_prob_and_trace", [x, *given], ["log_prob", _TRACE.name])
    elif "log_prob" in has:
        graphs["log_prob"] = GraphModule(model, "log_prob", [x, *given], ["log_prob"])
    if "encode" in has:
        method, parts = ("encode_with_scale", ["z", "scale"]) if _has_scale(model) else ("encode", ["z"])
        graphs["encode"] = GraphModule(model, method, [x, *given], parts)
    if isinstance(model, HasStepDecoder) and "decode" in has:
        graphs |= _decoder_graphs(model, given)
    elif "decode" in has:
        graphs["decode"] = GraphModule(model, "decode", [_code(model), *given], ["x"])
    if "latent" in has:
        knobs = [_port(part) for part in cast(HasLatent, model).latent_parameters]
        graphs["latent"] = GraphModule(model, "latent", [_SEED, _ROW, *knobs, *given], ["z"])
    if "classify" in has:
        graphs["classify"] = GraphModule(model, "classify", [x], ["log_posterior"])
    if "marginal" in has:
        graphs["marginal"] = GraphModule(model, "marginal", [x, _known(model), *given], ["log_prob"])
    if isinstance(model, HasInpaint) and "inpaint" in has:
        graphs["inpaint"] = GraphModule(model, "inpaint", [x, _known(model), _SEED, _ROW, *given], ["filled"])
    if isinstance(model, HasStepInpainter) and "inpaint" in has:
        names = [part.name for part in cast(HasStepSampler, model).sample_state]
        graphs["inpaint_init"] = GraphModule(model, "inpaint_init", [x, _known(model), _SEED, _ROW], names)
    if isinstance(model, HasSample):
        knobs = [_port(part) for part in model.sample_parameters]
        graphs["sample"] = GraphModule(model, "sample", [_SEED, _ROW, *knobs, *given], ["x"])
    if isinstance(model, HasStepSampler):
        graphs |= _sampler_graphs(model, given)
    return graphs


def model_programs(model: GenerativeModel) -> dict[Capability, Program]:
    """The program of every capability that the model has by itself."""
    has = capabilities(model)
    support = model.support
    dtype = cast(DType, support.dtype)
    addresses = tuple(ProgramInput(name=part.name, dtype=part.dtype, source="address") for part in (_SEED, _ROW))
    data = ProgramInput(name="x", dtype=dtype, shape=support.shape, source="data")
    sample = Output(name="x", dtype=dtype, shape=support.shape, kind="sample", units="data")
    given = model.conditions
    programs: dict[Capability, Program] = {}
    if isinstance(model, HasSample):
        programs["sample"] = Program(
            step="sample", inputs=(*addresses, *model.sample_parameters, *given), outputs=(sample,)
        )
    if isinstance(model, HasStepSampler):
        programs["sample"] = Program(
            init="sample_init",
            step="sample_step",
            final="sample_final",
            inputs=(*addresses, *model.sample_parameters, *given),
            state=model.sample_state,
            steps=_steps(model.sample_steps),
            preview=model.sample_preview,
            outputs=(sample,),
        )
    if "encode" in has or "decode" in has or "latent" in has:
        code = _code(model)
        words = cast(HasCode, model).code_description
        output = Output(name="z", dtype=code.dtype, shape=code.shape, kind="code", units="code", description=words)
        z = ProgramInput(name="z", dtype=code.dtype, shape=code.shape, source="data")
        if "encode" in has:
            codes = (output, output.model_copy(update=_SCALE)) if _has_scale(model) else (output,)
            programs["encode"] = Program(step="encode", inputs=(data, *given), outputs=codes)
        if isinstance(model, HasStepDecoder) and "decode" in has:
            programs["decode"] = _decoder_program(model, "decode_init", (z, *given), sample)
        elif "decode" in has:
            programs["decode"] = Program(step="decode", inputs=(z, *given), outputs=(sample,))
        if "latent" in has:
            drawn = (*addresses, *cast(HasLatent, model).latent_parameters, *given)
            programs["latent"] = Program(step="latent", inputs=drawn, outputs=(output,))
            if isinstance(model, HasStepDecoder) and "decode" in has and "sample" not in programs:
                programs["sample"] = _decoder_program(model, "sample_init", drawn, sample)
            elif "decode" in has and "sample" not in programs:
                # The step is the graph of /decode, so that rows of both share batches.
                programs["sample"] = Program(
                    init="latent", step="decode", inputs=drawn, state=(code,), outputs=(sample,)
                )
    if has_bound(model):
        programs["log_prob"] = _bound_program(cast(HasBound, model), (data, *addresses, *given))
    elif isinstance(model, HasLogProb):
        output = Output(
            name="log_prob", dtype="float64", kind=model.log_prob_kind, units="nats", error=model.log_prob_error
        )
        beside = (_FREE_ENERGY,) if isinstance(model, HasFreeEnergy) else ()
        if isinstance(model, HasTrace):
            beside = (_TRACE.model_copy(update={"shape": model.trace_shape}),)
        programs["log_prob"] = Program(step="log_prob", inputs=(data, *given), outputs=(output, *beside))
    programs |= _partial_programs(model, data, addresses, sample)
    if "classify" in has:
        programs["classify"] = Program(step="classify", inputs=(data,), outputs=(_posterior(cast(Any, model)),))
    return programs


def _partial_programs(
    model: GenerativeModel, data: ProgramInput, addresses: tuple[ProgramInput, ...], sample: Output
) -> dict[Capability, Program]:
    """What is asked about rows of which a part is known."""
    has, given = capabilities(model), model.conditions
    known = ProgramInput(
        name=KNOWN, dtype="bool", shape=model.known_shape, source="data", description="which coordinates are known"
    )
    programs: dict[Capability, Program] = {}
    if "marginal" in has:
        words = "log-probability of the coordinates that are known, the others summed or integrated out"
        output = Output(name="log_prob", dtype="float64", kind="exact", units="nats", description=words)
        programs["marginal"] = Program(step="marginal", inputs=(data, known, *given), outputs=(output,))
    if isinstance(model, HasInpaint) and "inpaint" in has:
        filled = sample.model_copy(update={"name": "filled"})
        programs["inpaint"] = Program(
            step="inpaint", inputs=(data, known, *addresses, *given), filling="exact", outputs=(filled,)
        )
    if isinstance(model, HasStepInpainter) and "inpaint" in has:
        sampler = cast(HasStepSampler, model)
        # The steps are those of /sample, so that rows of both share batches.
        programs["inpaint"] = Program(
            init="inpaint_init",
            step="sample_step",
            final="sample_final",
            inputs=(data, known, *addresses, *sampler.sample_parameters, *given),
            state=sampler.sample_state,
            steps=_steps(sampler.sample_steps),
            preview=sampler.sample_preview,
            filling=model.filling,
            outputs=(sample,),
        )
    return programs


def _posterior(model: HasClassify) -> Output:
    labels = model.labels
    return Output(
        name="log_posterior",
        dtype="float64",
        shape=(len(labels),),
        kind="exact",
        units="nats",
        description="log p(label given row), by Bayes' rule",
        vocabulary=labels,
        prior=model.label_prior,
    )


@torch.no_grad()
def answers_in_torch(
    model: GenerativeModel,
    capability: Capability,
    inputs: Mapping[str, NDArray[Any]],
    steps: ArrayLike | None = None,
) -> dict[str, NDArray[Any]]:
    """What a capability's program answers when torch runs its graphs; as ``runtime.loop.run_program``."""
    graphs = model_graphs(model)
    walk = Rows(model_programs(model)[capability], inputs, steps)
    while (graph := walk.graph) is not None:
        walk.accept(graphs[graph].run(walk.feeds()))
    return walk.result()


def score_graph(law: nn.Module) -> GraphModule:
    """The graph of the anomaly score: of the law of log_prob alone, float64 [n] -> [n], or of statistics and law."""
    if isinstance(law, AnomalyScore):
        return GraphModule(law, "forward", law.ports, law.names)
    return GraphModule(law, "forward", [State(name="log_prob", dtype="float64")], ["score"])


def _bound_program(model: HasBound, inputs: tuple[ProgramInput, ...]) -> Program:
    error = OutputError(
        scope="row",
        output="standard_error",
        bias="low on average, by the divergence of the bound from log p(x), which shrinks as samples grow",
    )
    return Program(
        init="log_prob_init",
        step="log_prob_step",
        inputs=inputs,
        state=(*model.bound_state, *ACCUMULATORS),
        steps=Steps(default=model.default_samples, maximum=MOST_SAMPLES, parameter="samples"),
        outputs=(
            Output(name="log_prob", dtype="float64", kind="lower_bound", units="nats", error=error),
            Output(name="standard_error", dtype="float64", kind="standard_error", units="nats"),
        ),
    )


def _steps(wanted: int | Steps) -> Steps:
    return wanted if isinstance(wanted, Steps) else Steps(default=wanted, allowed=(wanted,))


def _sampler_graphs(model: HasStepSampler, given: Sequence[State]) -> dict[str, GraphModule]:
    module = cast(nn.Module, model)
    state = list(model.sample_state)
    names = [part.name for part in state]
    knobs = [_port(part) for part in model.sample_parameters]
    step = GraphModule(
        module, "sample_step", [_SEED, _ROW, _T, *knobs, *given, *state], [NEXT + name for name in names]
    )
    arguments = step.examples(2)
    before = arguments[-len(state) :]
    with torch.no_grad():
        after = model.sample_step(*arguments)
    changed = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old is not new]
    return {
        "sample_init": GraphModule(module, "sample_init", [_SEED, _ROW], names),
        "sample_step": GraphModule(module, "sample_step", step.ports, [NEXT + name for name in names], keep=changed),
        "sample_final": GraphModule(module, "sample_final", state, ["x"]),
    }


class _Drawn(nn.Module):
    """What a decoder starts from when a row is drawn: the base law's code."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def start(self, seed: Tensor, row: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Addresses int64 [n], the base law's parameters, conditions -> the decoder's first state."""
        model = cast(Any, self.model)
        z = model.latent(seed, row, *rest)
        return cast(tuple[Tensor, ...], model.decode_init(z, *rest[len(model.latent_parameters) :]))


def _decoder_graphs(model: HasStepDecoder, given: Sequence[State]) -> dict[str, GraphModule]:
    module = cast(GenerativeModel, model)
    names = [part.name for part in model.decode_state]
    step = GraphModule(module, "decode_step", [_T, *given, *model.decode_state], [NEXT + name for name in names])
    graphs = {
        "decode_init": GraphModule(module, "decode_init", [_code(module), *given], names),
        "decode_step": step,
        "decode_final": GraphModule(module, "decode_final", model.decode_state, ["x"]),
    }
    if isinstance(model, HasLatent):
        knobs = [_port(part) for part in model.latent_parameters]
        graphs["sample_init"] = GraphModule(_Drawn(module), "start", [_SEED, _ROW, *knobs, *given], names)
    return graphs


def _decoder_program(model: HasStepDecoder, init: str, inputs: tuple[ProgramInput, ...], sample: Output) -> Program:
    # Of /decode and of /sample alike but for the start, so that rows of both share batches.
    return Program(
        init=init,
        step="decode_step",
        final="decode_final",
        inputs=inputs,
        state=model.decode_state,
        steps=_steps(model.decode_steps),
        outputs=(sample,),
    )


def _has_scale(model: GenerativeModel) -> bool:
    return isinstance(model, HasEncodeWithScale)


def _code(model: GenerativeModel) -> State:
    return State(name="z", dtype="float64", shape=cast(HasCode, model).code_shape)


def _known(model: GenerativeModel) -> State:
    return State(name=KNOWN, dtype="bool", shape=model.known_shape)


def _port(part: ProgramInput) -> State:
    return State(name=part.name, dtype=part.dtype, shape=part.shape)
