"""Is the service heard while it works? GET /healthz every 10 ms, beside runs of a graph that take a second each.

The model is made for this: a chain of matrix products, as many as take a second on this machine, whatever the number of
rows. As many callers as there are cores, and two more, keep it busy; meanwhile a new version of another model appears
and is verified, loaded and swapped in.

    make bench BENCH=healthz

The last line: latency of /healthz alone, and while all that goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import uvloop
from onnx import TensorProto, helper, numpy_helper

from benchmarks.tools.callers import Reply, closed_loop, milliseconds, post
from benchmarks.tools.models import copies, make_models, pack_models
from benchmarks.tools.processes import Server, nonesuch
from contract.bundle import GOLDENS, write_arrays
from tests.bundles import affine, graph_bytes, write

WIDTH = 384
GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def chain(products: int) -> bytes:
    """A graph x [n, 2] -> log_prob [n] = -sum(x**2), which multiplies matrices so many times beside."""
    double, integer, boolean = TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, WIDTH)))
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["matrix", "rotation"], ["next_matrix"]),
            helper.make_node("Identity", ["going"], ["still_going"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", integer, []),
            helper.make_tensor_value_info("going", boolean, []),
            helper.make_tensor_value_info("matrix", double, [WIDTH, WIDTH]),
        ],
        [
            helper.make_tensor_value_info("still_going", boolean, []),
            helper.make_tensor_value_info("next_matrix", double, [WIDTH, WIDTH]),
        ],
    )
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "columns"], ["sum"], keepdims=0),
        helper.make_node("Neg", ["sum"], ["minus"]),
        # The chain starts at zero times the rows, so that it can neither be computed beforehand nor left out.
        helper.make_node("ReduceSum", ["squares"], ["total"], keepdims=0),
        helper.make_node("Mul", ["total", "zero"], ["nothing"]),
        helper.make_node("Add", ["rotation", "nothing"], ["start"]),
        helper.make_node("Loop", ["products", "true", "start"], ["end"], body=body),
        helper.make_node("ReduceSum", ["end"], ["end_sum"], keepdims=0),
        helper.make_node("Mul", ["end_sum", "zero"], ["nothing_more"]),
        helper.make_node("Add", ["minus", "nothing_more"], ["log_prob"]),
    ]
    weights = {"columns": np.array([1]), "zero": np.array(0.0), "rotation": rotation}
    weights |= {"products": np.array(products), "true": np.array(True)}
    return graph_bytes(
        nodes,
        {"x": (double, ["n", 2])},
        {"log_prob": (double, ["n"])},
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )


def products_for(seconds: float) -> int:
    """How many products take so long on this machine."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(chain(tried := 100), options, providers=["CPUExecutionProvider"])
    times = []
    for _ in range(3):
        started = time.perf_counter()
        session.run(None, {"x": np.ones((1, 2))})
        times.append(time.perf_counter() - started)
    return max(1, round(tried * seconds / min(times)))


def write_slow(root: Path, products: int) -> None:
    """The bundle ``slow``."""
    fields, files = affine("slow")
    x = np.array([[0.0, 0.0], [1.0, -1.0]])
    files["log_prob.onnx"] = chain(products)
    files[GOLDENS] = write_arrays({"log_prob.in.x": x, "log_prob.out.log_prob": -(x * x).sum(axis=1)})
    write(root, (fields, files))


async def probe(server: Server, seconds: float) -> list[Reply]:
    """A GET every 10 ms or so."""
    return await closed_loop(server.port, itertools.repeat(GET), connections=1, seconds=seconds, pause=0.01)


async def measure(server: Server, bundles: Path, options: argparse.Namespace) -> None:
    alone = await probe(server, options.seconds)
    stop = asyncio.Event()
    slow = itertools.repeat(post("/log_prob", {"model": "slow", "rows": [[0.5, 0.25]]}))
    callers = len(os.sched_getaffinity(0)) + 2
    load = asyncio.create_task(closed_loop(server.port, slow, connections=callers, seconds=600.0, until=stop.is_set))
    await asyncio.sleep(2.0)
    beside = asyncio.create_task(probe(server, 2 * options.seconds))
    await asyncio.sleep(options.seconds / 2)
    await asyncio.to_thread(copies, bundles / "tabular" / "1", bundles, ["tabular"], 2)
    beside_replies = await beside
    stop.set()
    swapped = b'"version":2' in (await asyncio.to_thread(server.ask, "GET", "/readyz", {}, b""))[1]
    runs = await load
    failed = sum(not reply.good for reply in [*alone, *beside_replies, *runs])
    p50, p99 = (milliseconds(beside_replies, q) for q in (50, 99))
    worst = max(1e3 * reply.seconds for reply in beside_replies)
    print(
        f"healthz: p50 {milliseconds(alone, 50):.2f} ms, p99 {milliseconds(alone, 99):.2f} ms alone; "
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, worst {worst:.1f} ms of {len(beside_replies)} beside {len(runs)} runs "
        f"of 1 s each ({callers} callers, p50 {milliseconds(runs, 50) / 1e3:.1f} s) and a reload "
        f"({'swapped' if swapped else 'NOT SWAPPED'}); {failed} failed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of probing alone; beside work it is twice that")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bundles = Path(name) / "bundles"
        make_models(Path(name) / "models")
        pack_models(Path(name) / "models", bundles)
        products = products_for(1.0)
        print(f"a run: {products} products of {WIDTH} x {WIDTH} matrices", flush=True)
        write_slow(bundles, products)
        with nonesuch(bundles) as server:
            server.wait()
            uvloop.run(measure(server, bundles, options))


if __name__ == "__main__":
    main()
