"""Where the time of our PGD goes on a small net, by torch's profiler: what lies between it and its bare passes.

    BENCH_MODELS=... BENCH_DATA=... python -m benchmarks.speed_profile     # results/speed/profile.csv, ten seconds

An operation's own time, without what it calls; the model's own operations are there as well.
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from bench.core.files import write_atomically
from benchmarks import speed_sides
from benchmarks.speed_works import CASES, WORKS


@click.command()
@click.option("--model", default="cifar_cnn_a_adv", show_default=True)
@click.option("--work", default="pgd", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/speed/profile.csv"), show_default=True)
def main(model: str, work: str, out: Path) -> None:
    torch.set_num_threads(1)
    case = next(case for case in CASES if case.model == model)
    chosen = next(one for one in WORKS if one.name == work)
    side = speed_sides.ours(speed_sides.Scene.load(case, getattr(case, chosen.images)), chosen)
    side.run()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        side.run()
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    table = pd.DataFrame(
        [
            (event.key, event.count, event.self_cpu_time_total / 1e3, event.self_cpu_time_total / total)
            for event in events
        ],
        columns=["operation", "calls", "ms", "share"],
    )
    write_atomically(out, table.head(25).round(4).to_csv(index=False, lineterminator="\n").encode())
    click.echo(table.head(25).to_string(index=False))


if __name__ == "__main__":
    main()
