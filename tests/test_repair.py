"Splits made anew share no speaker and no sentence, are as large as asked or say why not, and depend on names and seed."
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from audio_ft_prep import PrepConfig, load_prepared, plan, prepare
from audio_ft_prep.config import size_of
from audio_ft_prep.leaks import OtherSet
from audio_ft_prep.load import load_rows
from audio_ft_prep.pipeline import merge
from audio_ft_prep.rejects import reason_counts
from audio_ft_prep.repair import dealt, made_anew, pool_of, repair_words
from audio_ft_prep.run import Part, make_run
from audio_ft_prep.samesentence import sentence_keys
from audio_ft_prep.sampling import select
from conftest import SAMPLE, tar_clips

SPLITS = ("train", "validation", "test")
SIZES = st.sampled_from(["1", "3", "10", "5%", "20%", "40%"])
ROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30), st.sampled_from(["", ".", "!"])), max_size=80)


def table(drawn, seconds=None):
    "Rows of (speaker, sentence, sign behind it); speaker 0 isn't known. Each clip is named for what it is."
    names, seen = [], {}
    for who, what, sign in drawn:
        n = seen[who, what, sign] = seen.get((who, what, sign), 0) + 1
        names.append(f"{who}-{what}{sign}-{n}")
    n = len(drawn)
    return pa.table({
        "id": pa.array(names, pa.string()),
        "split": pa.array(["train"] * n, pa.string()),
        "source_split": pa.array(["train" if i % 2 else "test" for i in range(n)], pa.string()),
        "speaker": pa.array([f"s{who}" if who else "" for who, *_ in drawn], pa.string()),
        "sentence": pa.array([f"Frase {what}{sign}" for _, what, sign in drawn], pa.string()),
        "seconds": pa.array([seconds] * n, pa.float64()),
    })


def config(test="5%", validation="5%", **more):
    return PrepConfig(
        "cv", "it", splits="repair", train_splits="train", test_size=test, validation_size=validation, **more
    )


def shares(rows, made, column):
    "What two of the new splits share."
    parts = [set(rows[column].filter(pa.array(made == name)).to_pylist()) - {""} for name in SPLITS]
    return [a & b for i, a in enumerate(parts) for b in parts[i + 1:]]


def split_of(rows, cfg):
    "Name of each row's new split, by id; those left out are in none."
    made = {}
    for name in ("test", "validation"):
        anew = made_anew(rows, PrepConfig(**{**vars(cfg), "eval_splits": name}))
        for row in anew.rows.select(["id", "split"]).to_pylist():
            made[row["id"]] = name if row["split"] == "eval" else "train"
    return made


# ---- what holds whatever the rows are

@settings(max_examples=25)
@given(ROWS, SIZES, SIZES, st.integers(0, 5))
def test_no_speaker_and_no_sentence_is_in_two_splits_and_every_row_is_accounted_for(drawn, test, validation, seed):
    rows = table(drawn)
    cfg = config(test, validation, seed=seed)
    made = split_of(rows, cfg)
    splits = np.array([made.get(name, "") for name in rows["id"].to_pylist()], object)
    keyed = rows.append_column("key", sentence_keys(rows["sentence"]))
    assert not any(shares(keyed, splits, "speaker")) and not any(shares(keyed, splits, "key"))
    anew = made_anew(rows, cfg)
    about = anew.about
    held = about["made"]["validation"]["rows"]
    assert len(anew.rows) + len(anew.rejects) + held == len(rows)
    assert sum(about["left_out"].values()) == len(anew.rejects)
    for name in SPLITS: assert about["made"][name]["rows"] == list(splits).count(name)
    assert set(anew.rejects["reason"].to_pylist()) <= {"kept_apart"}


@settings(max_examples=25)
@given(ROWS, SIZES, st.integers(0, 5))
def test_a_test_is_as_large_as_asked_or_says_why_not(drawn, test, seed):
    rows = table(drawn)
    about = made_anew(rows, config(test, seed=seed)).about
    size = size_of(test)
    asked = max(1, int(size.amount if size.unit == "rows" else size.amount * len(rows) + 1e-9))
    got = about["made"]["test"]["rows"]
    assert got >= 0.95 * asked or "test" in about["short"]
    is_said = any(words in repair_words(about) for words in ("test is smaller", "test is empty"))
    assert is_said == ("test" in about["short"])
    if len(set(rows["speaker"].to_pylist()) - {""}) > 1: assert got


@settings(max_examples=25)
@given(ROWS, SIZES, st.integers(0, 5), st.randoms())
def test_the_same_seed_makes_the_same_splits_in_any_order_of_rows(drawn, test, seed, random):
    rows = table(drawn)
    cfg = config(test, seed=seed)
    order = list(range(len(rows)))
    random.shuffle(order)
    assert split_of(rows, cfg) == split_of(rows.take(pa.array(order, pa.int64())), cfg)


def voices(n, speakers, sentences, seed=0):
    "Rows of a corpus like Common Voice: a few people read much, most little; sentences are read once or a few times."
    rng = np.random.default_rng(seed)
    who = 1 + (speakers * rng.random(n) ** 3).astype(int)
    return [(int(w), int(s), "") for w, s in zip(who, rng.integers(0, sentences, n))]


def test_rows_that_are_added_change_few_others():
    drawn = voices(4000, 400, 3000)
    cfg = config("200", "100")
    before = split_of(table(drawn), cfg)
    after = split_of(table(drawn + voices(40, 500, 3000, seed=1)), cfg)
    changed = sum(after.get(name, "") != split for name, split in before.items())
    tests = {name for name, split in before.items() if split != "train"}
    assert changed <= 0.03 * len(before)
    assert len(tests & {name for name, split in after.items() if split != "train"}) >= 0.6 * len(tests)


def test_hours_are_met_to_a_few_clips_and_a_test_has_many_voices():
    rows = table(voices(4000, 400, 3000), seconds=5.0)
    about = made_anew(rows, config("0.25h", "10%")).about
    test, validation = about["made"]["test"], about["made"]["validation"]
    assert 900 * 0.95 <= test["seconds"] <= 900 and test["speakers"] >= 10
    assert 2000 * 0.95 <= validation["seconds"] <= 2000
    assert about["short"] == [] and about["own_train"]["rows"] == 2000
    assert "train has" in repair_words(about)


def test_where_all_read_the_same_most_of_train_is_kept():
    "A test of the rows of a few speakers would cost all of train."
    rows = table([(who, what, "") for who in range(1, 101) for what in range(200)])
    pool = pool_of(rows, 42)
    made = dealt(pool, {"test": 1000.0})
    assert 950 <= made.amounts["test"] <= 1000 and made.amounts["train"] > 0.4 * len(rows)


def test_of_one_speaker_there_is_no_test_and_the_sentence_says_so():
    about = made_anew(table([(1, what, "") for what in range(50)]), config()).about
    assert about["made"]["train"]["rows"] == 50
    assert "test is empty: there are too few speakers for it" in repair_words(about)


def test_hours_without_durations_are_refused_before_anything_is_dealt_out():
    with pytest.raises(ValueError, match="test_size must be in rows or a share, .* no durations, got 2h"):
        made_anew(table(voices(50, 9, 50)), config("2h"))


# ---- a corpus from end to end

@pytest.fixture(scope="module")
def release(tmp_path_factory):
    "An unpacked release: validated.tsv lists 60 clips of 20 people; the official splits have 24 of them, 12 for train."
    folder = tmp_path_factory.mktemp("cv") / "cv-corpus-20" / "it"
    (folder / "clips").mkdir(parents=True)
    data = next(iter(tar_clips(SAMPLE, "it", "test").values()))
    listed = []
    for i in range(60):
        listed.append(f"s{i % 20}\tclip_{i:02d}.mp3\tfrase numero {i // 2}\n")
        (folder / "clips" / f"clip_{i:02d}.mp3").write_bytes(data)
    parts = {"validated": listed, "train": listed[:12], "dev": listed[12:18], "test": listed[18:24]}
    for name, lines in parts.items():
        (folder / f"{name}.tsv").write_text("client_id\tpath\tsentence\n" + "".join(lines), encoding="utf-8")
    lasts = "".join(f"clip_{i:02d}.mp3\t2500\n" for i in range(60))
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\n" + lasts, encoding="utf-8")
    return folder.parent


def settings_of(release, out, **more):
    return PrepConfig(
        str(release), "it", output_dir=str(out), splits="repair", test_size="6", num_workers=1, storage="audio", **more
    )


def test_validated_clips_are_read_once_each_and_keep_the_split_they_were_in(release, tmp_path):
    corpus = load_rows(settings_of(release, tmp_path / "out"))
    sources = corpus.rows["source_split"].cast(pa.string()).value_counts().to_pylist()
    assert {c["values"]: c["counts"] for c in sources} == {"train": 12, "validation": 6, "test": 6, "validated": 36}
    assert len(corpus.rejects) == 0 and set(corpus.rows["split"].to_pylist()) == {"train"}


def test_a_prepared_folder_has_the_new_splits_and_says_what_was_gained(release, tmp_path):
    made = prepare(settings_of(release, tmp_path / "out"), progress=False)
    data = load_prepared(made.folder)
    for column in ("speaker", "sentence"): assert not set(data["train"][column]) & set(data["eval"][column])
    about = made.prep["repair"]
    assert len(data["eval"]) == 6 and about["own_train"]["rows"] == 18
    assert about["pool"] == "validated" and about["made"]["train"]["rows"] == len(data["train"]) > 18
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    for text in (repr(made), card, "\n".join(plan(settings_of(release, tmp_path / "two")).notes)):
        assert "plits made anew of all validated rows" in text and "train has" in text
        assert "no published figure is over these rows" in text
    counts = made.counts
    assert counts["train"]["rows"] + counts["eval"]["rows"] == 60
    assert made.prep["eval_of"] == {"official": False, "splits": {"test": {"rows": 6, "kept": 6, "rejects": {}}}}


@pytest.mark.long
def test_parts_together_have_the_splits_of_one_run(release, tmp_path):
    whole = prepare(settings_of(release, tmp_path / "whole", shard_rows=10), progress=False)
    for i in range(2):
        prepare(settings_of(release, tmp_path / f"{i}", shard_rows=10), progress=False, part=Part(i, 2))
    merged = merge([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    assert merged.prep["repair"] == whole.prep["repair"] and merged.hash == whole.hash


def test_a_tree_without_tars_of_its_own_for_validated_takes_the_clips_of_its_splits(tmp_path):
    from conftest import write_corpus
    data = next(iter(tar_clips(SAMPLE, "it", "test").values()))
    clips = {s: [(f"{s}_{i}", data, f"{s} frase {i}") for i in range(7)] for s in ("train", "test")}
    root = write_corpus(tmp_path / "tree", clips)
    lines = [f"s{i % 7}\t{clip}.mp3\t{text}\n" for of in clips.values() for i, (clip, _, text) in enumerate(of)]
    (root / "transcript/it/validated.tsv").write_text(
        "client_id\tpath\tsentence\n" + "".join(lines) + "s9\tgone.mp3\tuna frase\n", encoding="utf-8"
    )
    corpus = load_rows(PrepConfig(str(root), "it", splits="repair"))
    assert len(corpus.rows) == 14 and corpus.rejects["reason"].to_pylist() == ["missing_audio"]


def test_a_table_without_splits_and_one_with_leaking_splits_go_the_same_way(tmp_path):
    data = next(iter(tar_clips(SAMPLE, "it", "test").values()))
    for i in range(12): (tmp_path / f"{i}.mp3").write_bytes(data)
    rows = [(f"{i}.mp3", f"frase {i}", f"s{i % 4}", "test" if i < 4 else "train") for i in range(12)]
    plain = "".join(f"{file},{text},{who}\n" for file, text, who, _ in rows)
    leaking = "".join(f"{','.join(row)}\n" for row in rows)
    cfg = PrepConfig(str(tmp_path), "it", splits="repair", test_size="3")
    for head, body in (("file_name,sentence,speaker\n", plain), ("file_name,sentence,speaker,split\n", leaking)):
        (tmp_path / "metadata.csv").write_text(head + body, encoding="utf-8")
        chosen = make_run(cfg).selection
        assert len(chosen.eval) == 3
        assert not set(chosen.eval["speaker"].to_pylist()) & set(chosen.train["speaker"].to_pylist())
        assert (chosen.repair["own_train"] is None) == ("split" not in head)


def test_train_shares_no_speaker_and_no_sentence_with_an_outside_set_either(release, tmp_path):
    run = make_run(settings_of(release, tmp_path / "out"))
    chosen = run.selection
    outside = OtherSet("benchmark", chosen.train.slice(0, 3))
    again = select(run.corpus, run.cfg, run.model, run.tokenizer, [outside])
    for column in ("speaker", "sentence"):
        assert not set(again.train[column].to_pylist()) & set(outside.rows[column].to_pylist())
    assert again.eval["id"].equals(chosen.eval["id"]) and 0 < len(again.train) < len(chosen.train)


def test_sizes_of_splits_that_are_not_made_are_refused():
    for wrong in (
        dict(test_size="500"),
        dict(splits="repair", validation_size="500"),
        dict(splits="repair", eval_splits="validation+test", train_splits="train"),
        dict(splits="repair", eval_splits=""),
        dict(splits="repair", train_splits=""),
        dict(splits="repair", eval_splits="other"),
    ):
        with pytest.raises(ValueError, match="repair"): PrepConfig("cv", "it", **wrong)


def test_caps_hold_before_anything_is_dealt_out_and_what_they_leave_out_is_on_record(release, tmp_path):
    whole = make_run(settings_of(release, tmp_path / "out"))
    cfg = replace(whole.cfg, max_per_sentence=1, max_per_speaker=2)
    chosen = select(whole.corpus, cfg, whole.model, whole.tokenizer)
    kept = pa.concat_tables([part.select(["speaker", "sentence"]) for part in (chosen.train, chosen.eval)])
    assert max(Counter(kept["speaker"].to_pylist()).values()) <= 2
    assert max(Counter(sentence_keys(kept["sentence"]).to_pylist()).values()) == 1
    over = {name for name in chosen.rejects["reason"].to_pylist() if name.endswith("_cap")}
    assert over and chosen.repair["rows"] < whole.selection.repair["rows"]
    lines = sum(chosen.rows_in.values())
    assert lines == len(kept) + sum(sum(reason_counts(chosen.rejects, split).values()) for split in chosen.rows_in)
