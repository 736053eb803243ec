"""Twelve utterances in every layout that is read: each builder writes them below a folder and gives the `dataset_name` that names them.

A test of another layout adds a builder here: `@layout` puts it into LAYOUTS under its function's name.
"""
import csv, io, json, tarfile
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf

from audio_ft_prep.audio import read_clip
from audio_ft_prep.rejects import BadClip
from conftest import SAMPLE, tar_clips, tsv_rows, write_corpus

LAYOUTS = {}
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Utterance:
    id: str
    split: str
    data: bytes = field(repr=False)
    sentence: str = ""
    speaker: str = ""

    @property
    def file(self): return f"{self.id}.mp3"
    @property
    def seconds(self): return len(self.samples) / 48000
    @property
    def samples(self): return sf.read(io.BytesIO(self.data), dtype="float32")[0]


def usable(data):
    "Whether a clip is a whole mono MP3 of 48 kHz that isn't silent."
    try: clip = read_clip(data)
    except BadClip: return False
    return (clip.format, clip.native_rate, clip.channels) == ("mp3", 48000, 1)


def utterances():
    "Five, four and three good clips of the sample's three Italian splits."
    out = []
    for split, n in (("train", 5), ("dev", 4), ("test", 3)):
        clips, rows = tar_clips(SAMPLE, "it", split), {
            r["path"].removesuffix(".mp3"): r for r in tsv_rows(SAMPLE, "it", split)
        }
        good = [k for k in sorted(clips) if k in rows and rows[k]["sentence"].strip() and usable(clips[k])]
        out += [Utterance(k, split, clips[k], rows[k]["sentence"], rows[k]["client_id"]) for k in good[:n]]
    assert len(out) == 12
    return out


def layout(build):
    LAYOUTS[build.__name__] = build
    return build


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def table(columns, rows, sep="\t"): return "".join(sep.join(r) + "\n" for r in [columns, *rows])
def of(items, split): return [u for u in items if u.split == split]
def csv_text(columns, rows):
    out = io.StringIO()
    csv.writer(out).writerows([columns, *rows])
    return out.getvalue()


@layout
def tar_tree(root, items):
    write_corpus(root, {s: [(u.id, u.data, u.sentence) for u in of(items, s)] for s in SPLITS})
    for s in SPLITS:
        put(
            root / f"transcript/it/{s}.tsv",
            table(["client_id", "path", "sentence"], [[u.speaker, u.file, u.sentence] for u in of(items, s)]),
        )
    return root


@layout
def mdc_folder(root, items):
    it = root / "cv-corpus-25.0-2026-03-09/it"
    for s in SPLITS:
        put(
            it / f"{s}.tsv",
            table(
                "client_id path sentence_id sentence up_votes locale".split(),
                [[u.speaker, u.file, "1", u.sentence, "2", "it"] for u in of(items, s)],
            ),
        )
    for u in items: put(it / "clips" / u.file, u.data)
    put(
        it / "clip_durations.tsv",
        table(["clip", "duration[ms]"], [[u.file, f"{u.seconds * 1000:.0f}"] for u in items]),
    )
    put(it / "reported.tsv", table(["sentence_id", "sentence", "locale", "reason"], [["1", "Ciao.", "it", "grammar"]]))
    return root


def pack(folder, archive, *, reverse=False):
    "A .tar.gz of a folder; transcripts first, or last."
    with tarfile.open(archive, "w:gz", compresslevel=1) as t:
        for p in sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: (p.suffix != ".tsv") != reverse):
            t.add(p, p.relative_to(folder).as_posix())
    return archive


@layout
def mdc_archive(root, items): return pack(mdc_folder(root / "unpacked", items), root / "common-voice-25-it.tar.gz")


@layout
def mdc_archive_clips_first(root, items):
    return pack(mdc_folder(root / "unpacked", items), root / "it.tgz", reverse=True)


@layout
def spontaneous(root, items):
    for u in items: put(root / "audios" / u.file, u.data)
    columns = (
        "client_id audio_id audio_file duration_ms prompt_id prompt transcription votes age gender language split"
        .split()
    )
    rows = [
        [
            u.speaker,
            u.id,
            u.file,
            f"{u.seconds * 1000:.0f}",
            "7",
            "Che tempo fa?",
            u.sentence,
            "1",
            "",
            "",
            "it",
            u.split,
        ]
        for u in items
    ]
    put(root / "ss-corpus-it.tsv", table(columns, rows))
    return root


@layout
def audiofolder_csv(root, items):
    for s in SPLITS:
        put(
            root / s / "metadata.csv",
            csv_text(
                ["file_name", "transcription", "speaker_id"],
                [[f"clips/{u.file}", u.sentence, u.speaker] for u in of(items, s)],
            ),
        )
        for u in of(items, s): put(root / s / "clips" / u.file, u.data)
    return root


@layout
def audiofolder_jsonl(root, items):
    put(
        root / "metadata.jsonl",
        "".join(
            json.dumps({"file_name": f"{u.split}/{u.file}", "text": u.sentence, "speaker": u.speaker}) + "\n"
            for u in items
        ),
    )
    for u in items: put(root / u.split / u.file, u.data)
    return root


@layout
def tsv_tables(root, items):
    for s in SPLITS:
        put(
            root / f"{s}.tsv",
            table(["path", "text", "speaker"], [[f"wav/{u.file}", u.sentence, u.speaker] for u in of(items, s)]),
        )
    for u in items: put(root / "wav" / u.file, u.data)
    return root


@layout
def csv_with_splits(root, items):
    for u in items: put(root / "audio" / u.file, u.data)
    return put(
        root / "all.csv",
        csv_text(
            ["split", "audio", "sentence", "client_id"],
            [[u.split, f"audio/{u.file}", u.sentence, u.speaker] for u in items],
        ),
    )


@layout
def nemo(root, items):
    for u in items: put(root / "elsewhere" / u.file, u.data)
    for s in SPLITS:
        lines = [
            {
                "audio_filepath": str(root / "elsewhere" / u.file),
                "duration": u.seconds,
                "offset": 0.0,
                "text": u.sentence,
                "speaker": u.speaker,
            }
            for u in of(items, s)
        ]
        put(root / f"manifests/{s}_manifest.json", "".join(json.dumps(l) + "\n" for l in lines))
    return root / "manifests"


@layout
def kaldi(root, items):
    for s in SPLITS:
        mine = sorted(of(items, s), key=lambda u: u.id)
        for name, text in (
            ("wav.scp", lambda u: root / "audio" / u.file),
            ("text", lambda u: u.sentence),
            ("utt2spk", lambda u: u.speaker),
        ):
            put(root / f"data/{s}/{name}", "".join(f"{u.id} {text(u)}\n" for u in mine))
    for u in items: put(root / "audio" / u.file, u.data)
    return root / "data"


@layout
def kaldi_segments(root, items):
    "One long recording a split; its utterances with a gap between them."
    for s in SPLITS:
        at, parts, segments = 0, [], []
        for u in of(items, s):
            parts += [np.full(4800, 0.01, np.float32), u.samples]
            at += 4800
            segments.append(f"{u.id} {s}-recording {at / 48000!r} {(at + len(u.samples)) / 48000!r}")
            at += len(u.samples)
        (root / s).mkdir(parents=True)
        sf.write(root / s / "long.wav", np.concatenate(parts), 48000, subtype="FLOAT")
        for name, lines in (
            ("segments", segments),
            ("wav.scp", [f"{s}-recording long.wav"]),
            ("text", [f"{u.id} {u.sentence}" for u in of(items, s)]),
            ("utt2spk", [f"{u.id} {u.speaker}" for u in of(items, s)]),
        ):
                                put(root / s / name, "".join(l + "\n" for l in lines))
    return root


def audio_table(items, place=lambda u: {"bytes": u.data, "path": u.file}):
    "A table as `datasets` writes it to Parquet."
    audio = pa.array([place(u) for u in items], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    return pa.table({"audio": audio, "text": [u.sentence for u in items], "speaker_id": [u.speaker for u in items]})


def put_parquet(root, items, name="data/{split}-00000-of-00001.parquet", group=2):
    for split, rows in (("train", of(items, "train")), ("validation", of(items, "dev")), ("test", of(items, "test"))):
        path = root / name.format(split=split)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(audio_table(rows), path, row_group_size=group)
    return root


def served(root, name="voices/twelve"):
    "Where the fixture `hub` serves a data set from."
    return root.parent / "served/datasets" / name


@layout
def hub_tar_tree(root, items):
    tar_tree(served(root), items)
    return "voices/twelve"


@layout
def hub_parquet(root, items):
    put_parquet(served(root), items)
    return "voices/twelve"


@layout
def hub_parquet_copy(root, items):
    "A data set made by a script, and the copy that the Hub keeps of it: a folder for each language and split."
    put(served(root) / "twelve.py", "raise SystemExit('a script that must not be run')")
    put_parquet(served(root, "voices/twelve@refs%2Fconvert%2Fparquet"), items, "it_it/{split}/0000.parquet")
    put_parquet(served(root, "voices/twelve@refs%2Fconvert%2Fparquet"), items[::-1], "fr_fr/{split}/0000.parquet")
    return "voices/twelve"


@layout
def parquet_folder(root, items): return put_parquet(root, items)


@layout
def saved(root, items):
    from datasets import Dataset, DatasetDict
    DatasetDict({s: Dataset(audio_table(of(items, s))) for s in SPLITS}).save_to_disk(str(root))
    return root


@layout
def saved_with_paths(root, items):
    "A saved data set whose audio column holds paths."
    from datasets import Dataset, DatasetDict
    files = {u.id: put(root / "audio" / u.file, u.data) for u in items}
    place = lambda u: {"bytes": None, "path": str(files[u.id])}
    DatasetDict({s: Dataset(audio_table(of(items, s), place)) for s in SPLITS}).save_to_disk(str(root / "saved"))
    return root / "saved"


FOLDERS = {"train": "train-clean-5", "dev": "dev-clean", "test": "test-clean"}


@layout
def librispeech(root, items):
    "A transcript for each folder; recordings below it."
    for s in SPLITS:
        put(root / f"Voices/{FOLDERS[s]}/1/2/1-2.trans.txt", "".join(f"{u.id} {u.sentence}\n" for u in of(items, s)))
        for u in of(items, s): put(root / f"Voices/{FOLDERS[s]}/1/2" / u.file, u.data)
    return root / "Voices"


@layout
def texts_beside(root, items):
    for u in items:
        put(root / u.split / u.file, u.data)
        put(root / u.split / f"{u.id}.txt", u.sentence + "\n")
    return root


def put_members(path, members):
    "Write a tar of small files."
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def put_shards(root, items, beside):
    "Two tars a split, of the recordings and what `beside` puts beside each: (ending, bytes)."
    for s in SPLITS:
        mine = of(items, s)
        for i, some in enumerate((mine[:2], mine[2:])):
            members = [(f"{u.id}.{ending}", data) for u in some for ending, data in (("mp3", u.data), beside(u))]
            put_members(root / f"{s}-{i:06d}.tar", members)
    return root


def described(u): return "json", json.dumps({"text": u.sentence, "speaker": u.speaker, "duration": u.seconds}).encode()


@layout
def webdataset(root, items): return put_shards(root, items, described)


@layout
def webdataset_with_texts(root, items): return put_shards(root, items, lambda u: ("txt", u.sentence.encode()))


@layout
def hub_webdataset(root, items):
    put_shards(served(root), items, described)
    return "voices/twelve"


@layout
def tarred_nemo(root, items):
    for s in SPLITS:
        lines = []
        for i, u in enumerate(of(items, s)):
            lines.append({"audio_filepath": u.file, "duration": u.seconds, "text": u.sentence, "shard_id": i % 2})
        put(root / f"{s}/tarred_audio_manifest.json", "".join(json.dumps(l) + "\n" for l in lines))
        for i in range(2): put_members(root / f"{s}/audio_{i}.tar", [(u.file, u.data) for u in of(items, s)[i::2]])
    return root
