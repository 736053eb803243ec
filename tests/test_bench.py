"""The benchmarks run, and find what we write identical to the reference's."""
import json, subprocess, sys
from pathlib import Path

import pytest

from audio_ft_prep.config import PrepConfig
from audio_ft_prep.load import load_rows

pytestmark = pytest.mark.long

BENCH = Path(__file__).resolve().parent.parent / "bench"


def run(script, *args, tmp_path):
    "Run a benchmark on a dozen clips; give what it printed and what it wrote."
    out = tmp_path / "figures.json"
    got = subprocess.run(
        [sys.executable, str(BENCH / script), "--smoke", "--json", str(out), *args],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert got.returncode == 0, got.stderr[-3000:]
    return got.stdout, json.loads(out.read_text())


def test_every_clip_of_ours_is_identical_to_the_references(tmp_path):
    said, got = run(
        "vs_reference.py", "--language", "it", "--decoder", "soundfile", "--feature-dtype", "float32", "--markdown",
        tmp_path=tmp_path,
    )
    head, *rows = got["table"]
    assert [r[0] for r in rows] == [
        "wall, s",
        "CPU, s",
        "clips/s",
        "output, MB",
        "cache beside it, MB",
        "peak memory, MB",
        "of which anonymous memory, MB",
    ]
    assert head == [
        "",
        "reference as run",
        "reference 1 thread",
        "ours",
        "ours fast",
        "as run / ours",
        "1 thread / ours",
        "as run / ours fast",
        "1 thread / ours fast",
    ]
    assert all(len(r) == len(head) for r in rows)
    assert [r["side"] for r in got["runs"]] == ["ours", "ours fast", "1 thread", "as run"]
    assert all(f"| {r[0]} | " in said for r in rows)
    same, fast = got["same"]["ours"], got["same"]["ours fast"]
    assert same["both"] == same["features"] == same["labels"] == same["ours"] > 0
    assert (
        f"ours {same['both']}, both {same['both']}; identical in float32: features {same['both']} of {same['both']}"
        in said
    )
    assert fast["both"] == fast["labels"] == same["both"] and 0 < fast["furthest"] <= 1.5e-4


def test_the_floor_is_the_sum_of_its_parts(tmp_path):
    said, got = run("floor.py", tmp_path=tmp_path)
    rows = {r[0]: r for r in got["table"][1:]}
    parts = ["decode", "resample", "log-mel", "float16", "write"]
    ours = ["ours, 1 worker(s): CPU", "ours, 1 worker(s): wall x workers"]
    assert list(rows) == [
        *parts,
        "floor",
        *ours,
        "log-mel, asrfront",
        "floor with it",
        *(r.replace("ours", "ours fast") for r in ours),
    ]
    assert rows["floor"][1] == pytest.approx(sum(rows[p][1] for p in parts))
    assert rows["floor with it"][1] == pytest.approx(
        rows["floor"][1] - rows["log-mel"][1] + rows["log-mel, asrfront"][1]
    )
    assert all(rows[p][1] > 0 for p in parts)
    assert got["same"] == "12 of 12"
    assert all(name in said for name in rows)


def test_a_corpus_is_repeated_under_new_names(tmp_path):
    sys.path.insert(0, str(BENCH))
    try: from common import build_corpus, read_clips
    finally: sys.path.remove(str(BENCH))
    made = build_corpus(tmp_path / "few", "", "en", 40)
    clips = list(read_clips(tmp_path / "few", "en"))
    assert made["clips"] == len({name for name, _, _ in clips}) == 40
    assert len({audio for _, audio, _ in clips}) < 40
    assert made["hours"] > 0


def test_a_folder_without_transcripts_is_refused_by_name(tmp_path):
    got = subprocess.run(
        [sys.executable, str(BENCH / "vs_reference.py"), "--smoke", "--corpus", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert got.returncode == 1 and f"no transcript folder in {tmp_path}" in got.stderr


def simulated(*args):
    "Lines of the simulation's table, as lists of cells."
    said = subprocess.run(
        [sys.executable, str(BENCH / "cluster.py"), "--markdown", *args],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    ).stdout
    return said, [[c.strip() for c in line.strip("|").split("|")] for line in said.splitlines()[2:]]


def test_a_cluster_that_never_fails_takes_the_time_that_its_work_takes():
    ideal = (
        "--runs",
        "3",
        "--hours",
        "1000",
        "--hours-to-failure",
        "1e9",
        "--stragglers",
        "0",
        "--start-s",
        "0",
        "--worker-s",
        "0",
        "--rows-per-s",
        "1e12",
        "--label-rows-per-s",
        "1e12",
    )
    _, (one, four) = simulated(*ideal, "--machines", "1", "4")
    hours = 1000 * 2.0 / 1000   # core-hours of 1,000 h at 2.0 ms a second
    assert float(one[5]) == pytest.approx(hours, rel=0.05) and float(four[5]) == pytest.approx(hours, rel=0.05)
    assert hours / 16 * 0.9 < float(one[3]) < hours / 16 * 1.25 and float(one[7]) == 0
    assert float(four[3]) < float(one[3]) / 2


def test_machines_that_are_lost_cost_work_and_no_shard():
    _, ((_, _, shards, hours, _, used, _, again, *_),) = simulated(
        "--runs", "5", "--hours", "1000", "--hours-to-failure", "0.1", "--machines", "4"
    )
    assert int(shards) == 131 and float(again) > 5 and float(used) > 2.0


def test_a_cluster_waits_for_the_process_that_gives_out_its_shards():
    _, ((*_, hours, _, _, _, _, _, _),) = simulated(
        "--runs", "3", "--hours", "1000", "--label-rows-per-s", "1000", "--machines", "64"
    )
    assert float(hours) == pytest.approx(1000 * 3600 / 5.5 / 1000 / 3600, rel=0.2)


def test_the_tutorials_tables_are_what_the_simulation_prints():
    page = (BENCH.parent / "docs/howto/scaling_out.md").read_text(encoding="utf-8")
    for args in ((), ("--shard-rows", "0")): assert simulated(*args)[0] in page


def test_a_corpus_of_any_size_is_planned_and_prepared_whole(tmp_path):
    said, got = run("scale.py", "--folder", str(tmp_path), "--markdown", tmp_path=tmp_path)
    assert [(r["side"], r["rows"]) for r in got["runs"]] == [("planned", 1000), ("ours", 200), ("ours", 400)]
    assert all(r["parent_mb"] > 0 for r in got["runs"]) and [r["worker_mb"] > 0 for r in got["runs"]] == [
        False,
        True,
        True,
    ]
    assert len(got["growth"]) == 2 and all(line in said for line in got["growth"])
    rows = load_rows(PrepConfig(str(tmp_path / "corpus-400"), "it"))
    assert (len(rows.rows), len(rows.rejects)) == (400, 0)


def test_leaks_are_searched_and_rows_chosen_before_any_audio_is_there(tmp_path):
    said, got = run("rows.py", tmp_path=tmp_path)
    leaks, choice = got["steps"]["leaks"], got["steps"]["choice"]
    assert 3000 > leaks["rows"][0] > leaks["rows"][1] == choice["rows"][0] > choice["rows"][1] > 0
    assert got["run"]["peak_mb"] > 0 and "leaks by speaker and sentence" in said


def test_what_is_forecast_is_shown_with_what_happened(tmp_path):
    said, got = run("forecast.py", "--language", "it", "--stored", "audio", tmp_path=tmp_path)
    one, = got["runs"]
    assert one["run"] == "it, 1 worker, audio" and one["run"] in said
    assert all(told > 0 and made > 0 for told, made in (one[k] for k in ("MB written", "MB of memory", "cpu")))
    low, high, took = one["s"]
    assert 0 < low < high and took > 0


def test_what_measures_cost_is_a_share_of_the_time_without_them(tmp_path):
    said, got = run("measures.py", tmp_path=tmp_path)
    cpu = got["cpu"]
    assert cpu["all measures"] == pytest.approx(cpu["with"] - cpu["without"])
    assert got["share"] == pytest.approx(cpu["all measures"] / cpu["without"]) and 0 < got["share"] < 1
    assert all(name in said for name in ("without", "levels", "bandwidth_hz", "all measures"))


def test_what_each_step_of_an_augmentation_costs_is_held_against_the_usual_work(tmp_path):
    said, got = run("augment.py", tmp_path=tmp_path)
    assert {"log-mel", "speed", "tempo", "noise, babble", "telephone"} <= got["cpu_ms"].keys()
    assert all(ms > 0 and name in said for name, ms in got["cpu_ms"].items())


def test_a_batch_is_read_and_collated_in_each_way(tmp_path):
    said, got = run("collator.py", tmp_path=tmp_path)
    for way in ("Whisper: usual, padded float32", "Whisper: source", "wav2vec2: FLAC", "w2v-BERT: usual, float32"):
        assert way in got["ms"]
    assert all(min(ms) > 0 and name in said for name, ms in got["ms"].items())
    assert all(len(speed) == 3 and min(speed) > 0 for speed in got["clips_per_second"].values())
    assert got["first_batch_ms"].keys() == {"disk", "disk, streamed", "S3, streamed"}


def test_planted_faults_are_found_and_counted(tmp_path):
    said, got = run("detection.py", "--language", "it", "--markdown", tmp_path=tmp_path)
    head, *rows = got["table"]
    assert head == ["planted", "finding", "found", "of", "at least"] and all(f"| {row[0]} | " in said for row in rows)
    assert all(found <= of and of in (2, 4) for _, _, found, of, _ in rows)  # a sentence said twice is two rows
    assert sum(found for _, _, found, _, _ in rows) > 25 and got["clean"] == 16


def test_flagging_and_cleaning_many_sentences_is_timed(tmp_path):
    said, got = run("text.py", "--markdown", tmp_path=tmp_path)
    assert [name for name in got["steps"] if name in said] == [*got["steps"]] and len(got["steps"]) == 3
    assert all(0 < cpu and 0 < wall for wall, cpu in got["steps"].values())
