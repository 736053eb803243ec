"Outside sets and lists of rejects of a corpus on the Hub; and a run that is killed while it hears what train must not have."
import signal
import time

import pytest

from audio_ft_prep.config import PrepConfig
from audio_ft_prep.exported import export_clips
from audio_ft_prep.leaks import leaks_in
from audio_ft_prep.pipeline import prepare
from audio_ft_prep.reading import read_prep, verify
from audio_ft_prep.suspects import suspects
from conftest import SAMPLE
from layouts import put_parquet, served, tar_tree, utterances

pytestmark = pytest.mark.long


@pytest.mark.parametrize("build", [tar_tree, put_parquet])
def test_an_outside_set_on_the_hub_is_compared_and_dropped(hub, tmp_path, build):
    build(served(tmp_path / "x"), utterances())
    light = dict(storage="audio", num_workers=1)
    light |= dict(keep_out="voices/twelve:test", leak_audio="drop", leak_sentences="drop")
    cfg = PrepConfig("sample", "it", train_splits="test", eval_splits="", output_dir=str(tmp_path / "out"), **light)
    made = prepare(cfg, progress=False)
    theirs = {u.id for u in utterances() if u.split == "test"}
    left = made.counts["train"]["rejects"]["leak"]
    assert left >= len(theirs) == 3 and verify(made.folder) == []
    assert {leak.set for leak in leaks_in(made.prep)} == {"voices/twelve:test"}


def test_rejects_of_a_corpus_on_the_hub_are_exported_to_listen_to(hub, tmp_path):
    tar_tree(served(tmp_path / "x"), utterances())
    light = dict(storage="audio", num_workers=1, max_seconds=2.0)
    made = prepare(PrepConfig("voices/twelve", "it", output_dir=str(tmp_path / "out"), **light), progress=False)
    left = sum(count["rejects"].get("too_long", 0) for count in made.counts.values())
    exported = export_clips(suspects(made.folder, reason="too_long"), tmp_path / "heard")
    sounds = [p for p in (tmp_path / "heard").iterdir() if p.suffix == ".mp3"]
    assert left and len(sounds) == left == len(exported.files)
    originals = {u.data for u in utterances()}
    assert all(p.read_bytes() in originals for p in sounds)


def test_a_run_that_is_killed_while_it_hears_an_outside_set_ends_as_if_nothing_had_been(start, long_corpus, tmp_path):
    settings = dict(leak_audio="drop", near=True, keep_out=f"{long_corpus}:train", storage="audio", num_workers=1)
    whole = prepare(PrepConfig("sample", "it", output_dir=str(tmp_path / "whole"), **settings), progress=False)
    words = ["--dataset-name", SAMPLE, "--language-code", "it", "--output-dir", tmp_path / "out"]
    words += ["--leak-audio", "drop", "--near", "--keep-out", f"{long_corpus}:train"]
    words += ["--storage", "audio", "--num-workers", "1"]
    for seconds in (0.5, 1.0, 1.5, 2.5):
        run = start("prepare", *words)
        time.sleep(seconds)
        run.signal(signal.SIGKILL)
        run.wait()
        assert not (tmp_path / "out/prep.json").exists() or seconds > 1
    assert start("prepare", *words).wait().code == 0
    assert read_prep(tmp_path / "out")["hash"] == whole.hash and verify(tmp_path / "out") == []
    assert read_prep(tmp_path / "out")["leaks"] == whole.prep["leaks"]
