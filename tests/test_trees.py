"Corpora without a table: transcripts and texts beside recordings, and tars of recordings with their texts."
import io, json, os, struct, tarfile

import numpy as np
import pytest
import soundfile as sf

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.load import load_rows
from layouts import put, put_members
from planted import swelling


def tone(hz, seconds=1.):
    "A WAV file of one frequency, which comes and goes."
    out = io.BytesIO()
    n = int(16000 * seconds)
    sf.write(
        out,
        0.3 * np.sin(2 * np.pi * hz * np.arange(n) / 16000) * swelling(n, 16000),
        16000,
        format="WAV",
        subtype="PCM_16",
    )
    return out.getvalue()


def read(place, **more):
    return load_rows(PrepConfig(str(place), "it", **{"train_splits": "train", "eval_splits": "", **more}))
def kept(corpus): return dict(zip(corpus.rows["id"].to_pylist(), corpus.rows["sentence"].to_pylist()))
def why(corpus): return sorted((r["reason"], r["detail"]) for r in corpus.rejects.to_pylist())
def refused(place, **more):
    with pytest.raises(ValueError) as e: read(place, **more)
    return str(e.value)


# Transcripts

def libri(root, lines="1-2-0000 UNO\n1-2-0001 DUE\n", files=("1-2-0000.flac", "1-2-0001.flac")):
    for name in files: put(root / "train-clean-100/1/2" / name, tone(440))
    put(root / "train-clean-100/1/2/1-2.trans.txt", lines)
    return root


def test_a_transcript_gives_its_folder_s_recordings_their_sentences_and_speakers(tmp_path):
    corpus = read(libri(tmp_path))
    assert kept(corpus) == {"1-2-0000": "UNO", "1-2-0001": "DUE"} and set(corpus.rows["speaker"].to_pylist()) == {"1"}
    assert corpus.source["kind"] == "librispeech" and len(corpus.rejects) == 0


@pytest.mark.parametrize("lines,files,reasons", [
    ("1-2-0000 UNO\n", ("1-2-0000.flac", "1-2-0001.flac"), {"no_row": "train-clean-100/1/2/1-2-0001.flac"}),
    ("1-2-0000 UNO\n1-2-0009 NOVE\n", ("1-2-0000.flac",), {"missing_audio": "1-2-0009.flac"}),
    ("1-2-0000 UNO\n1-2-0000 UNO\n", ("1-2-0000.flac",), {"duplicate_row": "1-2.trans.txt:2"}),
    (b"1-2-0000 UNO\n1-2-0001 caff\xe9\n", ("1-2-0000.flac",), {"bad_row": "UTF-8"}),
    ("1-2-0000 UNO\n1-2-0001 DUE\n", ("1-2-0000.flac", "1-2-0001.flac", "1-2-0001.wav"), {"bad_row": "2 recordings"})])
def test_a_line_of_a_transcript_that_is_no_row_costs_itself(tmp_path, lines, files, reasons):
    corpus = read(libri(tmp_path, lines, files))
    assert kept(corpus) == {"1-2-0000": "UNO"}
    for reason, said in reasons.items(): assert any(r == reason and said in d for r, d in why(corpus)), why(corpus)


def test_one_transcript_for_a_split_finds_recordings_in_folders_below(tmp_path):
    for name, folder in (("7_1_000001", "7/1"), ("8_2_000001", "8/2")):
        put(tmp_path / f"train/audio/{folder}/{name}.wav", tone(440))
    put(tmp_path / "train/transcripts.txt", "7_1_000001\tprima frase\n8_2_000001\tseconda frase\n")
    corpus = read(tmp_path)
    assert kept(corpus) == {"7_1_000001": "prima frase", "8_2_000001": "seconda frase"} and corpus.rows[
        "speaker"
    ].to_pylist() == ["7", "8"]


def test_a_transcript_that_leads_out_of_the_corpus_is_not_read(tmp_path):
    put(tmp_path / "secret.trans.txt", "1-2-0000 SECRET\n")
    libri(tmp_path / "c").joinpath("train-clean-100/1/2/1-2.trans.txt").unlink()
    os.symlink(tmp_path / "secret.trans.txt", tmp_path / "c/train-clean-100/1/2/1-2.trans.txt")
    assert "can't be read as a list" in refused(tmp_path / "c") and "SECRET" not in refused(tmp_path / "c")


# Texts beside recordings

@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.wav.txt"])
def test_the_text_beside_a_recording_is_its_sentence(tmp_path, name):
    put(tmp_path / "a.wav", tone(440))
    put(tmp_path / name, "\ufeffUna\nfrase. \n")
    assert kept(read(tmp_path)) == {"a": "Una frase."}


@pytest.mark.parametrize("make,said", [
    (lambda p: p.write_bytes(b"caff\xe9"), "not valid UTF-8"),
    (lambda p: p.write_bytes(b"a " * 600_000), "longer than"),
    (lambda p: os.symlink("/etc/hostname", p), "link out of its folder"),
    (lambda p: p.write_bytes("ciao".encode("utf-16")), "not valid UTF-8")])
def test_a_text_that_can_t_be_used_costs_its_recording(tmp_path, make, said):
    for name in "ab": put(tmp_path / f"{name}.wav", tone(440))
    put(tmp_path / "a.txt", "uno")
    make(tmp_path / "b.txt")
    corpus = read(tmp_path)
    assert kept(corpus) == {"a": "uno"}
    ((reason, detail),) = why(corpus)
    assert reason in ("bad_row", "unsafe_path") and said in detail and "b.txt" in detail


def test_a_text_that_is_a_pipe_is_not_waited_for(tmp_path):
    for name in "ab": put(tmp_path / f"{name}.wav", tone(440))
    put(tmp_path / "a.txt", "uno")
    os.mkfifo(tmp_path / "b.txt")
    corpus = read(tmp_path)
    assert kept(corpus) == {"a": "uno"} and [r for r, _ in why(corpus)] == ["no_row"]


def test_a_recording_without_a_text_and_a_text_without_a_recording_are_told(tmp_path):
    for name in "ab": put(tmp_path / f"{name}.wav", tone(440))
    for name in "ac": put(tmp_path / f"{name}.txt", "uno")
    corpus = read(tmp_path)
    assert (
        kept(corpus) == {"a": "uno"}
        and [r for r, _ in why(corpus)] == ["no_row"]
        and "c.txt" in corpus.source["notes"][0]
    )


# Tars

def web(root, members, name="train-000000.tar"):
    put_members(root / name, members)
    return root


GOOD = [("a.wav", tone(440)), ("a.txt", b"uno")]


@pytest.mark.parametrize("more,said", [
    ([("b.wav", tone(550))], "it has no text"),
    ([("b.wav", tone(550)), ("b.json", b"[1]")], "holds no JSON object"),
    ([("b.wav", tone(550)), ("b.json", b'{"text": 3}')], "must be text, got 3"),
    ([("b.wav", tone(550)), ("b.json", b'{"text": "due", "duration": "1,5"}')], "duration must be a number"),
    ([("b.wav", tone(550)), ("b.json", b'{"speaker": "ada"}')], "it has no text"),
    ([("b.wav", tone(550)), ("b.txt", b"caff\xe9")], "not valid UTF-8"),
    ([("b.wav", tone(550)), ("b.txt", b"due"), ("b.txt", b"tre")], "2 members are called b.txt"),
    ([("b.wav", tone(550)), ("b.flac", tone(660)), ("b.txt", b"due")], "it has 2 recordings"),
    ([("b.wav", tone(550)), ("b.txt", b"x" * (1 << 20) + b"x")], "at most 1048576 are read")])
def test_a_sample_that_can_t_be_used_costs_itself(tmp_path, more, said):
    corpus = read(web(tmp_path, GOOD + more))
    assert kept(corpus) == {"a": "uno"}
    ((reason, detail),) = why(corpus)
    assert reason == "bad_row" and said in detail and "train-000000.tar: b." in detail


def test_what_an_object_says_of_a_sample_is_kept(tmp_path):
    about = {"text": "due", "speaker": 7, "language": "de", "duration": 1.0, "gender": "female"}
    (row,) = read(web(tmp_path, [("b.wav", tone(550)), ("b.json", json.dumps(about).encode())])).rows.to_pylist()
    assert {k: row[k] for k in ("sentence", "speaker", "locale", "seconds", "gender", "start")} == {
        "sentence": "due", "speaker": "7", "locale": "de", "seconds": 1.0, "gender": "female", "start": None}


@pytest.mark.parametrize("seconds,start,part", [(3., 1., (1., 1.5)), (1.5, 60., (None, 1.5))])
def test_a_start_means_a_part_or_where_the_clip_was_cut_out(tmp_path, seconds, start, part):
    about = {"text": "due", "start": start, "end": start + 1.5}
    (row,) = read(
        web(tmp_path, [("b.wav", tone(550, seconds)), ("b.json", json.dumps(about).encode())])
    ).rows.to_pylist()
    assert (row["start"], row["seconds"]) == part


def test_samples_of_one_name_in_two_tars_are_two_clips(tmp_path):
    web(tmp_path, GOOD)
    web(tmp_path, [("a.wav", tone(880)), ("a.txt", b"altro")], "train-000001.tar")
    assert kept(read(tmp_path)) == {"train-000000/a": "uno", "train-000001/a": "altro"}


def test_audio_is_the_member_that_the_row_names(tmp_path):
    web(
        tmp_path,
        [
            m
            for i in range(5)
            for m in ((f"x{i}.wav", tone(300 + 100 * i)), (f"x{i}.txt", f"{300 + 100 * i}".encode()))
        ],
    )
    for row in read(tmp_path).rows.to_pylist():
        with open(row["file"], "rb") as f:
            f.seek(row["offset"]); samples, rate = sf.read(io.BytesIO(f.read(row["size"])))
        assert round(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples)) == int(row["sentence"])


def test_a_tar_that_is_cut_loses_what_lies_behind_the_cut_alone(tmp_path):
    web(tmp_path, GOOD + [("b.wav", tone(550, 3.)), ("b.txt", b"due")])
    path = tmp_path / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:60_000])
    assert kept(read(tmp_path)) == {"a": "uno"}


def test_members_that_lead_out_or_are_links_are_refused(tmp_path):
    web(tmp_path, GOOD)
    with tarfile.open(tmp_path / "train-000000.tar", "a") as tar:
        member = tarfile.TarInfo("../b.wav")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"RIFF"))
        link = tarfile.TarInfo("c.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    corpus = read(tmp_path)
    assert kept(corpus) == {"a": "uno"} and [r for r, _ in why(corpus)] == ["unsafe_path", "unsafe_path"]


def test_tars_without_splits_in_their_names_are_dealt_out(tmp_path):
    web(tmp_path, [m for i in range(20) for m in ((f"x{i}.wav", tone(440)), (f"x{i}.txt", b"uno"))], "EN-B000001.tar")
    corpus = read(tmp_path, eval_splits="test")
    assert len(corpus.rows) == 20 and set(corpus.rows["split"].to_pylist()) == {"train", "eval"}


def test_one_tar_is_a_corpus_too(tmp_path):
    assert kept(read(web(tmp_path, GOOD) / "train-000000.tar")) == {"a": "uno"}


# Tarred NeMo

def nemo(root, lines, tars):
    for name, members in tars.items(): put_members(root / name, members)
    put(root / "tarred_audio_manifest.json", "".join(json.dumps(l) + "\n" for l in lines))
    return root


@pytest.mark.parametrize(
    "line,reason,said",
    [
        ({"audio_filepath": "z.wav", "text": "due", "shard_id": 0}, "missing_audio", "no tar holds z.wav"),
        ({"audio_filepath": "a.wav", "text": "due", "shard_id": 7}, "missing_audio", "no tar has the number 7"),
        ({"audio_filepath": "a.wav", "text": "due"}, "bad_row", "2 tars hold a.wav"),
        ({"audio_filepath": "a.wav", "text": "due", "shard_id": "x"}, "bad_row", "shard_id must be a whole number"),
        ({"audio_filepath": "a.wav", "text": "due", "shard_id": True}, "bad_row", "shard_id must be a whole number"),
        ({"text": "due", "shard_id": 0}, "bad_row", "it names no file"),
        (
            {"audio_filepath": "a.wav", "text": "due", "shard_id": 1, "duration": "x"},
            "bad_row",
            "duration must be a number",
        ),
    ],
)
def test_a_line_of_a_tarred_manifest_that_is_no_row_costs_itself(tmp_path, line, reason, said):
    good = {"audio_filepath": "a.wav", "text": "uno", "duration": 1.0, "shard_id": 0}
    corpus = read(
        nemo(tmp_path, [good, line], {"audio_0.tar": [("a.wav", tone(440))], "audio_1.tar": [("a.wav", tone(550))]})
    )
    assert list(kept(corpus).values()) == ["uno"]
    ((found, detail),) = why(corpus)
    assert found == reason and said in detail


def test_a_manifest_in_a_folder_below_finds_the_tars_above(tmp_path):
    put_members(tmp_path / "audio__OP_0..1_CL_/audio_0.tar", [("a.wav", tone(440))])
    put(
        tmp_path / "audio__OP_0..1_CL_/sharded_manifests/manifest_0.json",
        json.dumps({"audio_filepath": "a.wav", "text": "uno", "shard_id": 0}) + "\n",
    )
    assert kept(read(tmp_path)) == {"a": "uno"}


# A language for each row

@pytest.mark.parametrize("layout", ["csv", "jsonl", "parquet"])
def test_rows_announce_the_language_that_their_column_names(tmp_path, layout):
    rows = [("a", "uno", "it"), ("b", "eins", "deu"), ("c", "one", "English"), ("d", "vier", ""), ("e", "kvin", "epo")]
    for name, *_ in rows: put(tmp_path / f"c/{name}.wav", tone(440))
    table = [{"path": f"{name}.wav", "sentence": text, "tongue": tongue} for name, text, tongue in rows]
    if layout == "csv":
        put(tmp_path / "c/list.csv", "path,sentence,tongue\n" + "".join(",".join(r.values()) + "\n" for r in table))
    elif layout == "jsonl": put(tmp_path / "c/list.jsonl", "".join(json.dumps(r) + "\n" for r in table))
    else:
        import pyarrow as pa, pyarrow.parquet as pq
        pq.write_table(pa.Table.from_pylist(table), tmp_path / "c/train.parquet")
    cfg = PrepConfig(
        str(tmp_path / "c"),
        "it",
        language_column="tongue",
        output_dir=str(tmp_path / "out"),
        train_splits="train",
        eval_splits="",
        num_workers=1,
    )
    made = prepare(cfg, progress=False)
    from audio_ft_prep import load_prepared
    from audio_ft_prep.models import load_model
    data, tokenizer = load_prepared(made.folder), load_model("openai/whisper-small").tokenizer
    announced = {
        i: tokenizer.convert_ids_to_tokens([labels[1]])[0]
        for i, labels in zip(data["train"]["id"], data["train"]["labels"])
    }
    assert announced == {"a": "<|it|>", "b": "<|de|>", "c": "<|en|>", "d": "<|it|>"}
    assert made.counts["train"]["rejects"] == {"bad_row": 1}
    with pytest.raises(ValueError, match="no column language_of_row: .* with language_column"):
        read(tmp_path / "c", language_column="language_of_row")


def test_a_model_that_knows_english_alone_takes_no_language_column(tmp_path):
    put(tmp_path / "c/a.wav", tone(440))
    put(tmp_path / "c/list.csv", "path,sentence,tongue\na.wav,one,en\n")
    cfg = PrepConfig(
        str(tmp_path / "c"),
        "en",
        model_id="openai/whisper-small.en",
        language_column="tongue",
        output_dir=str(tmp_path / "out"),
        train_splits="train",
        eval_splits="",
    )
    with pytest.raises(ValueError, match="knows English only, and language_column"): prepare(cfg, progress=False)


# Times under other names

PARTS = {
    "from and to": {"from": 1.0, "to": 2.0},
    "a pair": {"timestamp": [1.0, 2.0]},
    "words": {"from": "Ada", "to": "Bice"},
    "a day": {"timestamp": "2024-05-01"},
}


@pytest.mark.parametrize("layout", ["csv", "jsonl", "webdataset", "parquet"])
@pytest.mark.parametrize("how", PARTS)
def test_times_under_from_and_to_or_in_a_pair_are_a_part_and_words_are_none(tmp_path, layout, how):
    if how == "a pair" and layout in ("csv", "parquet"): pytest.skip("such a table holds no pairs")
    about = {"text": "due", **PARTS[how]}
    if layout == "webdataset":
        web(tmp_path / "c", [("long.wav", tone(440, 4.)), ("long.json", json.dumps(about).encode())])
    else:
        put(tmp_path / "c/long.wav", tone(440, 4.))
        row = {"path": "long.wav", **about}
        if layout == "csv": put(tmp_path / "c/list.csv", f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
        elif layout == "jsonl": put(tmp_path / "c/list.jsonl", json.dumps(row) + "\n")
        else:
            import pyarrow as pa, pyarrow.parquet as pq
            pq.write_table(pa.Table.from_pylist([row]), tmp_path / "c/train.parquet")
    (row,) = read(tmp_path / "c").rows.to_pylist()
    assert (row["start"], row["seconds"]) == ((1., 1.) if how in ("from and to", "a pair") else (None, None))
