"The sample corpus in the package is what its README says: small, plain, clean where it should be, broken where it says so."
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import audio_ft_prep

SAMPLE = Path(audio_ft_prep.__file__).parent / "data" / "sample"
SPLITS = [(lang, split) for lang in ("it", "en") for split in ("train", "dev", "test")]
ALL_SPLITS = SPLITS + [("de", split) for split in ("train", "dev", "test")]
COLUMNS = ["client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age", "gender",
           "accents", "variant", "locale", "segment"]
README = (SAMPLE / "README.md").read_text(encoding="utf-8")


def table(title):
    "The rows of the README's table under a heading, as dicts."
    lines = README.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    head, _, *body = [[c.strip() for c in l.strip("|").split("|")] for l in lines if l.startswith("|")]
    return [dict(zip(head, r)) for r in body]


def members(lang, split):
    "Clip name -> bytes, of the split's only tar."
    with tarfile.open(SAMPLE / f"audio/{lang}/{split}/{lang}_{split}_0.tar", "r:") as t:
        return {Path(m.name).stem: t.extractfile(m).read() for m in t}


def rows(lang, split):
    head, *body = (SAMPLE / f"transcript/{lang}/{split}.tsv").read_bytes().decode().removesuffix("\n").split("\n")
    assert head.split("\t") == COLUMNS
    cells = [l.split("\t") for l in body]
    assert {len(c) for c in cells} == {len(COLUMNS)}
    return [dict(zip(COLUMNS, c)) for c in cells]


def clip_name(row): return row["path"].removesuffix(".mp3")


def wart(lang, split, expected, what=""):
    "Names of the clips that the README lists so."
    return [w["clip"] for w in table("Warts") if (w["language"], w["split"], w["expected"]) == (lang, split, expected)
            and what in w["what is wrong"]]


def told_bytes(mp3):
    "Size of the whole file as its Xing or Info header tells it."
    at = max(mp3[:64].find(b"Xing"), mp3[:64].find(b"Info"))
    assert at > 0 and mp3[at + 7] & 3 == 3, "no header, or one without counts"
    return int.from_bytes(mp3[at + 12:at + 16], "big")


def test_folder_is_small():
    assert 0 < sum(p.stat().st_size for p in SAMPLE.rglob("*") if p.is_file()) < 1_250_000


def test_shard_counts_name_every_tar():
    shards = json.loads((SAMPLE / "n_shards.json").read_text())
    assert shards == {lang: dict(train=1, dev=1, test=1) for lang in ("it", "en", "de")}
    assert len([*SAMPLE.rglob("*.tar")]) == len(ALL_SPLITS)


@pytest.mark.parametrize("lang,split", ALL_SPLITS)
def test_tars_are_plain_with_safe_names(lang, split):
    path = SAMPLE / f"audio/{lang}/{split}/{lang}_{split}_0.tar"
    with tarfile.open(path, "r:") as t: found = t.getmembers()
    raw = path.read_bytes()
    for m in found:
        folder, name = m.name.split("/")
        assert m.type == tarfile.REGTYPE and not m.pax_headers
        assert folder == f"{lang}_{split}_0" and name.startswith(f"common_voice_{lang}_") and name.endswith(".mp3")
        assert (m.mtime, m.uid, m.gid, m.uname, m.gname) == (0, 0, 0, "", "")
        assert raw[m.offset + 257:m.offset + 265] == b"ustar\x0000" and m.offset_data == m.offset + 512
    assert len({m.name for m in found}) == len(found)


@pytest.mark.parametrize("lang,split", ALL_SPLITS)
def test_counts_are_those_of_the_readme(lang, split):
    says, = [{k: int(v) for k, v in r.items() if k not in ("language", "split")} for r in table("Counts")
             if (r["language"], r["split"]) == (lang, split)]
    names, audio = [clip_name(r) for r in rows(lang, split)], members(lang, split)
    rejects = [w for w in table("Warts") if (w["language"], w["split"]) == (lang, split) and w["expected"] != "kept"]
    planted = [f for f in table("Planted faults") if (f["language"], f["split"]) == (lang, split)]
    rejects += [f for f in planted if f["found"] == "no_modulation"]
    rows_in = len(names) + len(audio.keys() - set(names))
    assert says == {"TSV rows": len(names), "audio files": len(audio), "rows in": rows_in,
                    "kept": rows_in - len(rejects), "rejected": len(rejects)}


@pytest.mark.parametrize("lang,split", SPLITS)
def test_every_clean_clip_decodes_and_has_one_row(lang, split):
    odd = {w["clip"] for w in table("Warts")}
    clean = {n: b for n, b in members(lang, split).items() if n not in odd}
    count = Counter(clip_name(r) for r in rows(lang, split))
    assert clean.keys() == {n for n in count if n not in odd} and len(clean) >= 3
    for name, mp3 in clean.items():
        x, rate_hz = sf.read(io.BytesIO(mp3), dtype="float32")
        assert (rate_hz, x.ndim, count[name], told_bytes(mp3)) == (48000, 1, 1, len(mp3)), name
        assert 2 <= len(x) / rate_hz <= 6 and 0.1 < np.abs(x).max() <= 1, name


@pytest.mark.parametrize("lang", ["it", "en"])
def test_no_speaker_and_no_clean_sentence_in_two_splits(lang):
    kept = {s: [r for r in rows(lang, s) if r["sentence"].strip()] for s in ("train", "dev", "test")}
    for column in ("client_id", "sentence"):
        seen = [v for part in kept.values() for v in {r[column] for r in part}]
        assert len(set(seen)) == len(seen), column
    assert all(len(r["client_id"]) == 128 and int(r["client_id"], 16) for part in kept.values() for r in part)
    assert all(r["locale"] == lang for part in kept.values() for r in part)


def test_most_utterances_are_clean_and_italian_dev_and_test_have_one_wart_at_most():
    warts = table("Warts")
    for lang in ("it", "en"):
        total = sum(int(r["rows in"]) for r in table("Counts") if r["language"] == lang)
        assert sum(w["language"] == lang for w in warts) < total / 2
    per_split = Counter((w["language"], w["split"]) for w in warts)
    assert per_split["it", "dev"] <= 1 and per_split["it", "test"] <= 1


def test_italian_train_has_one_reject_of_each_reason():
    reasons = "truncated empty_audio silent undecodable missing_audio no_row duplicate_row empty_sentence".split()
    assert all(len(wart("it", "train", r)) == 1 for r in reasons)


@pytest.mark.parametrize("lang,split", SPLITS)
def test_rejected_clips_are_broken_as_the_readme_says(lang, split):
    audio, names = members(lang, split), Counter(clip_name(r) for r in rows(lang, split))
    is_so = dict(
        truncated=lambda n: len(audio[n]) < 0.65 * told_bytes(audio[n]),
        empty_audio=lambda n: audio[n] == b"",
        silent=lambda n: not sf.read(io.BytesIO(audio[n]))[0].any(),
        undecodable=lambda n: audio[n].startswith(b"<!DOCTYPE html>"),
        missing_audio=lambda n: n not in audio and names[n] == 1,
        no_row=lambda n: n in audio and names[n] == 0,
        duplicate_row=lambda n: names[n] == 2,
        empty_sentence=lambda n: [r["sentence"] for r in rows(lang, split) if clip_name(r) == n] == ["   "])
    for w in table("Warts"):
        if (w["language"], w["split"]) == (lang, split) and w["expected"] != "kept":
            assert is_so[w["expected"]](w["clip"]), w


@pytest.mark.parametrize("lang,split", SPLITS)
def test_kept_warts_are_good_speech_in_an_odd_shape(lang, split):
    audio, by_name = members(lang, split), {clip_name(r): r for r in rows(lang, split)}
    info = lambda n: sf.info(io.BytesIO(audio[n]))
    is_so = {"double quote": lambda n: by_name[n]["sentence"].count('"') == 1,
             "sentence `NA`": lambda n: by_name[n]["sentence"] == "NA",
             "path without": lambda n: by_name[n]["path"] == n,
             "WAV bytes": lambda n: (info(n).format, info(n).samplerate) == ("WAV", 16000),
             "stereo": lambda n: (info(n).format, info(n).samplerate, info(n).channels) == ("MP3", 44100, 2)}
    for name in wart(lang, split, "kept"):
        kind, = [k for k in is_so if name in wart(lang, split, "kept", k)]
        assert is_so[kind](name), (name, kind)
        assert np.abs(sf.read(io.BytesIO(audio[name]))[0]).max() > 0.1


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    "What preparing the German clips finds of each: flags, or the reject reason."
    from audio_ft_prep import PrepConfig, prepare
    from audio_ft_prep.cliptable import clip_table
    from audio_ft_prep.reading import PreparedFolder
    cfg = PrepConfig("sample", "de", output_dir=str(tmp_path_factory.mktemp("german") / "out"), num_workers=1)
    folder = prepare(cfg, progress=False).folder
    found = {row["id"]: row["flags"] for row in clip_table(folder, ["id", "flags"]).to_pylist()}
    return found | {row["id"]: [row["reason"]] for row in PreparedFolder.of(folder).read_rejects().to_pylist()}


def test_each_planted_fault_is_found_and_clean_clips_have_nothing(german):
    faults = {fault["clip"]: fault["found"] for fault in table("Planted faults")}
    assert len(faults) >= 19 and len(german) == sum(len(rows("de", split)) for split in ("train", "dev", "test"))
    for clip, found in german.items():
        wanted = faults.get(clip, "")
        if not wanted or wanted.startswith("leak"): assert found == [], clip
        else: assert wanted in found and len(found) <= 2, (clip, found)


def test_leaks_are_planted_as_the_readme_says():
    faults = {fault["found"]: fault["clip"] for fault in table("Planted faults")}
    train, test = ({clip_name(row): row for row in rows("de", split)} for split in ("train", "test"))
    heard, known = members("de", "train"), members("de", "test")
    assert train[faults["leak: speakers"]]["client_id"] in {row["client_id"] for row in test.values()}
    assert train[faults["leak: sentences"]]["sentence"] in {row["sentence"] for row in test.values()}
    assert heard[faults["leak: audio"]] in known.values()
