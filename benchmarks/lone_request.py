"""How long a lone /log_prob on moons waits while another client samples 500 digits, over and over.

    make bench, or python benchmarks/lone_request.py [--seconds 20] [--n 500]

Starts a server of its own with the caches off, measures the lone caller first with nothing else to do and then beside
the sampler, and prints the percentiles and their ratio.
"""

from __future__ import annotations

import argparse
import threading
import time

import httpx
import numpy as np

from tests.service.server_process import ROOT, serving

ROW = {"model": "moons-gaussian", "rows": [[0.5, 0.25]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each of the two measurements")
    parser.add_argument("--n", type=int, default=500, help="digits a request of the other client")
    options = parser.parse_args()
    with serving(ROOT / "bundles", NONESUCH_CACHE_BYTES="0") as server:
        url = server.url
        idle = measure(url, options.seconds)
        stop, drawn = threading.Event(), [0]
        sampler = threading.Thread(target=sample, args=(url, options.n, stop, drawn))
        sampler.start()
        time.sleep(0.5)
        loaded = measure(url, options.seconds)
        stop.set()
        sampler.join()
    print(f"{'':24}{'p50 ms':>10}{'p99 ms':>10}{'worst ms':>10}{'requests':>10}")
    for name, times in (("alone", idle), (f"beside {options.n} digits", loaded)):
        p50, p99 = np.percentile(times, [50, 99])
        print(f"{name:24}{p50:10.2f}{p99:10.2f}{times.max():10.2f}{len(times):10d}")
    print(f"ratio of the p99: {np.percentile(loaded, 99) / np.percentile(idle, 99):.1f}; digits drawn: {drawn[0]}")


def measure(url: str, seconds: float) -> np.ndarray:
    """Latencies in ms of a caller that asks, waits 5 ms, and asks again."""
    times = []
    with httpx.Client(base_url=url) as client:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            started = time.perf_counter()
            client.post("/log_prob", json=ROW).raise_for_status()
            times.append(1e3 * (time.perf_counter() - started))
            time.sleep(0.005)
    return np.array(times)


def sample(url: str, n: int, stop: threading.Event, drawn: list[int]) -> None:
    with httpx.Client(base_url=url, timeout=120) as client:
        seed = 0
        while not stop.is_set():
            client.post("/sample", json={"model": "digits", "version": 1, "n": n, "seed": seed}).raise_for_status()
            drawn[0] += n
            seed += 1


if __name__ == "__main__":
    main()
