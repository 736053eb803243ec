"""Simulate a long corpus on a cluster: how many machines, how many hours.

    python bench/cluster.py                       # 10,000 h on 1, 4, 16 and 64 machines of 16 cores
    python bench/cluster.py --shard-rows 0        # shards as they are chosen when nothing is said
    python bench/cluster.py --core-ms 1.5 --markdown

What a core does is measured (bench/floor.py and the page of benchmarks), and so is the driver's work on the rows (bench/scale.py). How machines start, come, fail and differ is
assumed, and can be set: see --help. The engine's rules are those of `run_ray`: one shard a core at a time, what is lost is made again, and what comes last is waited for.
"""
import argparse, heapq, random, statistics
from dataclasses import dataclass

from audio_ft_prep.shards import rows_per_shard


@dataclass
class Machine:
    "A machine that is there from some moment until it fails."
    ready_s: float
    fails_s: float
    pace: float   # time that it takes, as a multiple of what was measured
    heir: "Machine | None" = None   # what takes its place


def successor(a, m, rng):
    "The machine that takes a lost one's place, the same for all its cores."
    m.heir = m.heir or drawn(a, m.fails_s + a.replace_s, rng)
    return m.heir


def machines_of(a, count, rng):
    "Draw the machines that a run begins with."
    return [drawn(a, rng.uniform(a.start_s / 4, a.start_s), rng) for _ in range(count)]


def drawn(a, ready_s, rng):
    "Draw a machine that is ready at some time."
    slow = rng.random() < a.stragglers
    return Machine(
        ready_s,
        ready_s + rng.expovariate(1 / (a.hours_to_failure * 3600)),
        max(0.7, rng.gauss(1, 0.05)) * (a.straggler_pace if slow else 1),
    )


def simulated(a, count, seed):
    "Run all shards; give seconds, core seconds used, and shards that were made again."
    rng = random.Random(seed)
    rows = round(a.hours * 3600 / a.clip_s)
    size = rows_per_shard(rows, a.shard_rows)
    shards = [size] * (rows // size) + [rows % size] * bool(rows % size)
    begin = rows / a.rows_per_s   # the driver reads and chooses the rows before any shard is made
    free = [
        (max(begin, m.ready_s) + a.worker_s, i, m)
        for i, m in enumerate(m for m in machines_of(a, count, rng) for _ in range(a.cores))
    ]
    heapq.heapify(free)
    end = used = again = 0
    ready = begin   # when the driver has a shard to give
    while shards:
        at, i, m = heapq.heappop(free)
        ready += shards[-1] / a.label_rows_per_s
        at = max(at, ready)
        took = shards[-1] * a.clip_s * a.core_ms / 1000 * m.pace * max(0.8, rng.gauss(1, 0.03))
        if at + took <= m.fails_s:
            shards.pop()
            end, used = max(end, at + took), used + took
            heapq.heappush(free, (at + took, i, m))
        else:   # the machine is lost: what it had is made elsewhere, and another machine takes its place
            again, used = again + (at < m.fails_s), used + max(0, m.fails_s - at)
            heir = successor(a, m, rng)
            heapq.heappush(free, (max(at, heir.ready_s) + a.worker_s, i, heir))
    return dict(wall_s=end, core_s=used + begin + rows / a.label_rows_per_s, again=again, shards=-(-rows // size))


def line(a, count):
    "A line of the table: medians of many runs, and the hours that 95 % of them stay below."
    runs = [simulated(a, count, a.seed + i) for i in range(a.runs)]
    middle = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
    hours = sorted(r["wall_s"] / 3600 for r in runs)
    busy_s = middle["wall_s"] - a.hours * 3600 / a.clip_s / a.rows_per_s
    return [
        f"{n}"
        for n in (
            count,
            count * a.cores,
            f"{middle['shards']:,.0f}",
            f"{middle['wall_s'] / 3600:.2f}",
            f"{hours[len(hours) * 19 // 20]:.2f}",
            f"{middle['core_s'] / 3600:.1f}",
            f"{middle['core_s'] / middle['wall_s'] / count / a.cores:.0%}",
            f"{statistics.mean(r['again'] for r in runs):.1f}",
            f"{a.hours * a.read_mb / busy_s:,.0f}",
            f"{a.hours * a.write_mb / busy_s:,.0f}",
        )
    ]


HEAD = [
    "machines",
    "cores",
    "shards",
    "hours",
    "95 % of runs below (h)",
    "core-hours",
    "cores in use",
    "shards repeated",
    "read, MB/s",
    "written, MB/s",
]


def arguments():
    "What can be set, with what was measured and what is assumed."
    p = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = lambda name, value, help: p.add_argument(
        f"--{name.replace('_', '-')}", type=type(value), default=value, help=help
    )
    p.add_argument("--machines", type=int, nargs="+", default=[1, 4, 16, 64], help="numbers of machines")
    add("hours", 10000.0, "hours of audio")
    add("cores", 16, "cores of a machine")
    add("shard_rows", 5000, "clips in a shard; 0 for what is chosen when nothing is said")
    add("clip_s", 5.5, "seconds of a clip")
    add("core_ms", 2.0, "measured: milliseconds that a core is busy or waits for a second of audio")
    add(
        "worker_s",
        4.0,
        "assumed: seconds until a worker has imported what it needs, from a disk that hasn't read it yet (1.5 where"
        " it has)",
    )
    add("rows_per_s", 40000.0, "measured: rows that the driver reads and selects in a second")
    add("read_mb", 29.0, "measured: MB of an hour of audio as the corpus holds it (48 kHz MP3 of Common Voice)")
    add(
        "write_mb",
        58.0,
        "MB of an hour that is kept, as half-precision features: what `plan` forecasts, within 2 % of what was"
        " measured",
    )
    add(
        "label_rows_per_s",
        25000.0,
        "measured: rows that the driver labels and packs in a second, shard after shard, as they are given out",
    )
    add("start_s", 180.0, "assumed: seconds until the last machine is there; the first come after a quarter of it")
    add(
        "hours_to_failure",
        24.0,
        "assumed: mean hours until a machine is lost, as those that are cheap because they may be taken back",
    )
    add("replace_s", 300.0, "assumed: seconds until another takes its place")
    add("stragglers", 0.03, "assumed: share of machines that are slow")
    add("straggler_pace", 2.0, "assumed: how much longer those take")
    add("runs", 200, "runs to simulate")
    add("seed", 42, "seed of all that is drawn")
    p.add_argument("--markdown", action="store_true", help="print a table for a page")
    return p.parse_args()


def main():
    a = arguments()
    rows = [HEAD, *(line(a, n) for n in a.machines)]
    if a.markdown: rows = [rows[0], ["---:"] * len(HEAD), *rows[1:]]
    wide = [0 if a.markdown else max(map(len, col)) for col in zip(*rows)]
    for r in rows:
        print(("| " + " | ".join(r) + " |") if a.markdown else "  ".join(c.rjust(w) for c, w in zip(r, wide)))


if __name__ == "__main__": main()
