"""What a prepared folder says of itself is checked before it is used: any JSON in any field, damaged records, other files than those that were recorded."""
import copy, hashlib, json, os, time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from audio_ft_prep import load_prepared, prepare
from audio_ft_prep.config import PrepConfig
from audio_ft_prep.evalof import eval_words
from audio_ft_prep.flagcounts import flag_counts
from audio_ft_prep.leaks import leak_sentences, leaks_in
from audio_ft_prep.output import OutputFolder
from audio_ft_prep.plain import open_plain
from audio_ft_prep.prepjson import check_prep, is_beside, read_json, shard_index
from audio_ft_prep.reading import read_prep, verify
from audio_ft_prep.repair import repair_words
from audio_ft_prep.sampled import sampled_notes
from audio_ft_prep.shards import ShardKey, json_bytes, record_bytes, result_of
from audio_ft_prep.textwords import text_notes

DIGITS = "0" * 64
WHOLE = {
    "config": {
        "dataset_name": "sample",
        "language_code": "it",
        "model_id": "openai/whisper-small",
        "train_splits": "train",
        "eval_splits": "test",
        "storage": "features",
        "feature_dtype": "float16",
    },
    "fingerprint": "a9752b383559b7e2",
    "source": {"kind": "commonvoice", "identity": DIGITS, "language": "it", "notes": ["a note"]},
    "versions": {"audio_ft_prep": "0.1.0", "torch": "2.13.0+cpu"},
    "model": {
        "origin": "the folder",
        "start_id": 50258,
        "mels": 80,
        "frames": 3000,
        "rate_hz": 16000,
        "max_labels": 448,
    },
    "counts": {
        "train": {"rows": 21, "kept": 20, "samples": 9, "rejects": {"silent": 1}},
        "eval": {"rows": 1, "kept": 1, "samples": 9, "rejects": {}},
    },
    "shards": [
        {
            "split": s,
            "file": f"{s}/data-0000{i}-of-0000{n}.arrow",
            "rows": 5,
            "samples": 9,
            "bytes": 1000,
            "sha256": DIGITS,
            "examples": DIGITS,
        }
        for s, i, n in (("train", 0, 2), ("train", 1, 2), ("eval", 0, 1))
    ],
    "files": dict.fromkeys(
        [
            "rejects.parquet",
            "clips.parquet",
            "selection.parquet",
            "dataset_dict.json",
            "train/dataset_info.json",
            "train/state.json",
            "eval/dataset_info.json",
            "eval/state.json",
            "processor/tokenizer.json",
            "README.md",
        ],
        DIGITS,
    ),
    "measures": ["peak", "clipped", "level_db"],
    "flags": {"train": {"low_snr": {"clips": 2, "samples": 3}}, "eval": {}},
    "leaks": {
        "eval": {
            "speakers": {
                "mode": "report", "rows": 2, "seconds": 3.5, "dropped": 1, "dropped_seconds": None, "note": "a note"
            },
            "audio": {
                "mode": "drop", "rows": None, "seconds": None, "dropped": 0, "dropped_seconds": 0.0, "note": "not heard"
            },
        }
    },
    "eval_of": {"official": False, "splits": {"test": {"rows": 2, "kept": 1, "rejects": {"silent": 1}}}},
    "sampling": {
        "train": {
            "rows": 22,
            "taken": 20,
            "hours": {"asked": 1.0, "seconds": 60.37, "from": {"headers": 20, "sizes": 2}},
            "groups": {
                "by": ["gender", "age"],
                "shares": "proportional",
                "count": 2,
                "given": 1,
                "without": 0,
                "named": [
                    {"values": ["female_feminine", "twenties"], "rows": 16, "taken": 16},
                    {"values": ["", ""], "rows": 6, "taken": 4},
                ],
            },
        }
    },
    "text": {
        "changed": {"train": {"apostrophes": 2}, "eval": {}},
        "examples": [{"id": "a", "rule": "apostrophes", "before": "l’ora", "after": "l'ora"}],
        "reported": {"train": {"offensive": 1}},
        "vocabulary": {"from": "corpus", "tokens": 30, "letters": "abc", "unknown": {"train": {"w": 2}}},
    },
    "repair": {
        "pool": "splits",
        "rows": 28,
        "unknown_speakers": 1,
        "asked": {"test": "20%"},
        "short": ["test"],
        "made": {
            "train": {"rows": 22, "seconds": None, "speakers": 5, "sentences": 22},
            "test": {"rows": 5, "seconds": 9.5, "speakers": 3, "sentences": 5},
        },
        "left_out": {"speaker": 1, "sentence": 1},
        "own_train": {"rows": 24, "seconds": 31.5},
    },
    "hash": DIGITS,
    "part": {"index": 0, "of": 1, "shards": 3, "rows_in": {"train": 21, "eval": 1}},
}


def paths(value, at=()):
    "Every place in a JSON value."
    yield at
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(below, (*at, key))


def put(value, at, new):
    "The same JSON with something else in one place."
    if not at: return new
    out = copy.copy(value)
    out[at[0]] = put(value[at[0]], at[1:], new)
    return out


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["..", "/", "train/../x", "\0", "5", "-1", "\x1b[31m\r\n", "a" * 200_000]),
    lambda below: st.lists(below, max_size=3)
    | st.dictionaries(st.text(max_size=5) | st.sampled_from(["train", "..", "rejects", "\x1b[31m"]), below, max_size=3),
    max_leaves=6,
)


def words_about(prep):
    "All that is said of what prep.json says, for a terminal."
    yield from map(repair_words, filter(None, [prep.get("repair")]))
    yield from leak_sentences(leaks_in(prep))
    yield from text_notes(prep.get("text", {}))
    yield from sampled_notes(prep.get("sampling", {}))
    yield from flag_counts(prep)
    if entry := prep.get("eval_of"): yield eval_words(entry, prep["config"])


def inside(prep):
    "Whether all that a prep.json names lies in a prepared folder."
    names = [s["file"] for s in prep["shards"]] + list(prep["files"])
    return all(
        not n.startswith("/") and ".." not in n.split("/") and n.isprintable() and "\\" not in n and n.count("/") < 2
        for n in names
    )


@settings(max_examples=int(os.environ.get("AUDIO_FT_PREP_EXAMPLES", 400)))
@given(at=st.sampled_from([*paths(WHOLE)]), new=ANY)
def test_any_json_in_any_field_is_taken_as_it_may_stand_or_refused_in_a_sentence(at, new):
    try: prep = check_prep(put(WHOLE, at, new))
    except ValueError as e:
        assert (
            str(e).startswith("prep.json describes no prepared data set, ")
            and len(str(e)) < 2500
            and str(e).isprintable()
        )
    else:
        assert inside(prep)
        assert all(map(str.isprintable, words_about(prep)))


@pytest.mark.parametrize("at", [*paths(WHOLE)], ids=lambda at: ".".join(map(str, at)) or "all")
def test_a_field_that_is_missing_is_refused_or_was_never_needed(at):
    if not at: return
    prep = put(WHOLE, at[:-1], None)
    holder = copy.deepcopy(WHOLE)
    within = holder
    for key in at[:-1]: within = within[key]
    del within[at[-1]]
    for damaged in (prep, holder):
        try: taken = check_prep(damaged)
        except ValueError as e: assert "describes no prepared data set" in str(e)
        else:
            assert inside(taken)
            assert all(map(str.isprintable, words_about(taken)))

@pytest.mark.parametrize("measures", [["peak", "clipped"], ["peak"], ["clipped"], []])
def test_a_folder_says_which_measures_it_has(measures):
    assert check_prep(WHOLE | {"measures": measures})["measures"] == measures


@pytest.mark.parametrize(
    "measures",
    [["loudness"], ["clipped", "peak"], ["peak", "peak"], "peak", "a\nb", {"peak": 1}, [["peak"]], None, 7],
    ids=str,
)
def test_measures_that_are_not_known_are_refused_in_a_sentence(measures):
    with pytest.raises(ValueError, match="measures must be among peak, clipped") as e:
        check_prep(WHOLE | {"measures": measures})
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("family", ["kaldi", "", 7, ["whisper"], "whisper\n"], ids=repr)
def test_a_family_that_is_not_known_is_refused_in_a_sentence(family):
    model = WHOLE["model"] | {"family": family}
    with pytest.raises(ValueError, match="model.family must be .*, got") as e: check_prep(WHOLE | {"model": model})
    assert "\n" not in str(e.value)


@settings(max_examples=300)
@given(
    st.text()
    | st.from_regex(
        r"(train|eval|Train|\.\.)?/?(\.\./|/|\\)?data-[0-9]{4,6}-of-[0-9]{4,6}\.arrow\n?", fullmatch=True
    )
    | st.from_regex(r"processor/[.\w/\\-]{1,20}", fullmatch=True)
)
def test_a_name_that_is_taken_is_the_one_spelling_of_a_file_inside(name):
    where = shard_index(name)
    if where: assert name == "{}/data-{:05d}-of-{:05d}.arrow".format(*where) and where[1] < where[2]
    if where or is_beside(name):
        assert (
            os.path.normpath(name) == name
            and not os.path.isabs(name)
            and ".." not in name
            and name.isascii()
            and not name.endswith((".py", ".bin", ".pkl", ".pt", ".so"))
        )


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 10**6,
        b'{"a":' * 10**5,
        b"1" * 10**6,
        b'{"a": 1, "a": 2}',
        b"NaN",
        b"-Infinity",
        b"1e400",
        b'"\\udc80"',
        b"\xff",
        b"",
        b"{",
        b"\0" * 100,
        b" " * (1 << 26),
    ],
    ids=range(13),
)
def test_json_without_end_or_sense_is_refused_at_once(data):
    since = time.monotonic()
    with pytest.raises(ValueError, match=r"^prep.json is damaged \(.*\): prepare it again$"):
        read_json(data, "prep.json")
    assert time.monotonic() - since < 10


@settings(max_examples=200)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda b: st.lists(b) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), b),
    )
)
def test_what_we_write_is_read_as_it_was(value): assert read_json(json_bytes(value), "prep.json") == value


# Shards that an earlier run made

@pytest.fixture
def half(prepared, tmp_path):
    "A folder in which all shards are made and nothing is finished, as a kill leaves it."
    made = prepared("it", storage="audio", shard_rows=8)
    out = tmp_path / "out"
    folder = OutputFolder.of(out)
    folder.start({k: made.prep[k] for k in ("config", "fingerprint", "source", "versions")}, ["train", "eval"])
    for i, s in enumerate(made.prep["shards"]):
        split, index, _ = shard_index(s["file"])
        (out / s["file"]).write_bytes((made.folder / s["file"]).read_bytes())
        rejects = [["train", "train", str(n), "silent", ""] for n in range(8 if (i, split) == (0, "x") else 0)]
        (out / f".work/{split}-{index:05d}.clips").write_bytes(b"found")
        found = replace(result_for(s, index, rejects), clips=hashlib.sha256(b"found").hexdigest())
        result = result_of(json.loads(record_bytes(found)))
        (out / f".work/{split}-{index:05d}.json").write_bytes(record_bytes(result, folder.token))
    return folder


def result_for(shard, index, rejects):
    from audio_ft_prep.shards import ShardResult
    return ShardResult(**shard, index=index, rejects=rejects)


def middle_zeroed(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2:len(data) // 2 + 4000] = bytes(4000)
    path.write_bytes(data)
def one_bit(path):
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
def cut(path): path.write_bytes(path.read_bytes()[:-1])
def other_shard(path): path.write_bytes((path.parent / "data-00001-of-00003.arrow").read_bytes())
def is_link(path):
    os.rename(path, path.parent / "there")
    path.symlink_to(path.parent / "there")
def is_fifo(path):
    path.unlink()
    os.mkfifo(path)
def gone(path): path.unlink()


@pytest.mark.parametrize("damage", [middle_zeroed, one_bit, cut, other_shard, is_link, is_fifo, gone])
def test_a_shard_that_is_not_the_recorded_one_is_made_again(half, damage):
    keys = [ShardKey("train", 0), ShardKey("train", 1), ShardKey("train", 2), ShardKey("eval", 0)]
    assert all(half.done_shards(keys, half.token).values())
    damage(half / "train/data-00000-of-00003.arrow")
    found = half.done_shards(keys, half.token)
    assert [key for key in keys if not found[key]] == [("train", 0)]


@settings(max_examples=150)
@given(
    at=st.sampled_from(
        "split index file rows samples bytes sha256 examples rejects clips token record".split()
    ),
    new=ANY,
)
def test_a_record_with_another_value_is_no_record(at, new):
    told = json.loads(record_bytes(result_for(WHOLE["shards"][0], 0, [["train", "train", "a", "silent", "x"]]), "t"))
    if told[at] == new and type(told[at]) is type(new): return
    with pytest.raises(ValueError): result_of(told | {at: new}, "t")


@pytest.mark.parametrize("damage", [is_link, is_fifo, gone, lambda path: path.write_bytes(b"Found")])
def test_a_shard_whose_findings_are_not_the_recorded_ones_is_made_again(half, damage):
    damage(half.work / "train-00000.clips")
    assert half.record(ShardKey("train", 0), half.token) and not half.done(ShardKey("train", 0), half.token)


def test_a_record_of_another_run_is_not_believed(half):
    first, second = ShardKey("train", 0), ShardKey("train", 1)
    assert half.done(first, half.token) and not half.done(first, "another") and not half.done(second, "")


@pytest.mark.parametrize("key", [ShardKey("train", 0), ShardKey("eval", 0)], ids=str)
@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b'{"file": "/etc/passwd"}', b"\xff", b"[" * 10**5])
def test_a_damaged_record_is_no_record(half, key, data):
    (half.work / key.record).write_bytes(data)
    assert half.done(key, half.token) is None


def test_a_run_goes_on_from_whole_shards_and_makes_a_damaged_one_again(start, tmp_path, long_corpus):
    "Same size, other bytes: the resumed run says the hash of data that verify finds whole."
    import signal
    from conftest import flags, until
    args = flags(
        dataset_name=long_corpus,
        language_code="it",
        train_splits="train",
        eval_splits="test",
        model_id="openai/whisper-tiny",
        storage="audio",
        shard_rows=20,
        num_workers=1,
        output_dir=tmp_path / "out",
    )
    run = start("prepare", *args)
    until(lambda: len([*tmp_path.glob("out/.work/train-*.json")]) >= 2 or not run.alive())
    run.signal(signal.SIGKILL)
    run.wait()
    if (tmp_path / "out/prep.json").exists(): pytest.skip("it was over before it could be killed")
    one = json.loads((tmp_path / "out/.work/train-00000.json").read_text())["file"]
    middle_zeroed(tmp_path / "out" / one)
    assert start("prepare", *args).wait().code == 0
    assert verify(tmp_path / "out") == []
    whole = prepare(
        PrepConfig(
            str(long_corpus),
            "it",
            train_splits="train",
            eval_splits="test",
            model_id="openai/whisper-tiny",
            storage="audio",
            shard_rows=20,
            num_workers=1,
            output_dir=str(tmp_path / "whole"),
        ),
        progress=False,
    )
    assert read_prep(tmp_path / "out")["hash"] == whole.hash


# Opening files

@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "a/../b", "a//b", "./a", "a/", "a\0b"])
def test_no_file_is_opened_by_a_name_that_leads_elsewhere(tmp_path, name):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("b")
    with pytest.raises(ValueError, match="plain names"): open_plain(tmp_path, name)


@pytest.mark.parametrize(
    "what",
    ["link", "link to a folder above", "broken link", "loop", "FIFO", "folder", "socket", "device", "missing"],
)
def test_only_a_plain_file_is_opened_and_nothing_is_waited_for(tmp_path, what):
    import socket
    path, name = tmp_path / "in" / "x", "in/x"
    path.parent.mkdir()
    (tmp_path / "secret").write_text("secret")
    if what == "link": path.symlink_to(tmp_path / "secret")
    if what == "broken link": path.symlink_to(tmp_path / "nowhere")
    if what == "loop": path.symlink_to(path)
    if what == "FIFO": os.mkfifo(path)
    if what == "folder": path.mkdir()
    if what == "socket": socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))
    if what == "device":
        if os.geteuid(): pytest.skip("to make a device takes root")
        try: os.mknod(path, 0o20600, os.makedev(1, 5))
        except OSError as e: pytest.skip(f"no device can be made here: {e}")
    if what == "link to a folder above":
        (tmp_path / "real").mkdir()
        (tmp_path / "real/x").write_text("x")
        (tmp_path / "out").symlink_to(tmp_path / "real")
        name = "out/x"
    with pytest.raises(FileNotFoundError if what == "missing" else ValueError): open_plain(tmp_path, name)


def test_a_folder_behind_a_link_is_opened_because_its_reader_named_it(prepared, tmp_path):
    (tmp_path / "link").symlink_to(prepared("it", storage="audio", shard_rows=8).folder)
    assert verify(tmp_path / "link") == [] and len(load_prepared(tmp_path / "link")["train"])
