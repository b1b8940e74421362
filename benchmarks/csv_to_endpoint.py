"""From a CSV of twenty mixed columns with holes to a calibrated endpoint: how long, and how near the truth?

The file is drawn from a law that is known (training/data/made.py), so that the density which the endpoint gives can be
held against the true one, on rows that training never saw.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.service.server_process import COMMAND, ROOT, serving
from training.data.made import tables, write_csv

NONESUCH = COMMAND[:-1]


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000, help="rows of the file (default: 4000)")
    parser.add_argument("--fresh", type=int, default=2000, help="rows to compare on (default: 2000)")
    asked = parser.parse_args()
    table = tables()["people"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_csv(folder / "people.csv", table, table.draw(asked.rows, 0))
        started = time.perf_counter()
        subprocess.run(
            [*NONESUCH, "train", "people.csv", "--out", "bundles"],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": name},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        trained = time.perf_counter()
        with serving(folder / "bundles") as server, server.client() as client:
            fresh = table.draw(asked.fresh, 1)
            records = table.support.array_to_records(fresh)
            body = {"model": "people", "records": records}
            client.post("/anomaly-score", json={**body, "records": records[:1]}).raise_for_status()
            answered = time.perf_counter()
            ours = np.array(client.post("/log_prob", json=body).raise_for_status().json()["log_prob"], dtype=np.float64)
            alarms = client.post("/anomaly-score", json=body).raise_for_status().json()
    truth = table.log_prob(fresh)
    gap = truth - ours
    error = gap.std(ddof=1) / len(gap) ** 0.5
    flagged = np.mean(alarms["is_anomaly"])
    low, high = alarms["false_alarm_interval"]
    print(
        f"{asked.rows} rows, 20 columns: trained in {trained - started:.0f} s, first answer {answered - started:.0f} s"
    )
    print(
        f"true log p {truth.mean():.2f}, ours {ours.mean():.2f}: {gap.mean():.2f} +- {error:.2f} nats below it, a row"
    )
    print(f"false alarms on fresh rows at 0.05: {flagged:.3f}; the answer promises {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    sys.exit(main())
