"""Corpora drawn at random in every layout, and what must come of them: written, read and judged without the package.

Every piece of a recording is a tone of its own frequency, and every row says its number in its sentence and as its speaker, so that audio and sentence of whatever is kept are told from outside."""
import ast, csv, io, json, math, os, posixpath, re, stat, tarfile, unicodedata
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile as sf
from hypothesis import strategies as st

from planted import swelling

RATE_HZ = 16000
SECRET_HZ = 3000  # of the recording that lies outside the corpus
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
NAMES = (
    "a.wav",
    "a.flac",
    "sub/a.wav",
    "b b.ogg",
    "perché.wav",
    "C.WAV",
    "1.mp3",
    "x.y.wav",
    "a_0-500.wav",
    "sub/deep/d,e.flac",
    "-.wav",
    "'q'.wav",
)
SPLITS = ("train", "validation", "test")
FILES = {"train": "train", "validation": "dev", "test": "test"}  # what a split is called in names of files
TAILS = (
    "",
    "Ciao, mondo.",
    'Dice: "sì".',
    "perche\u0301 no",
    "  due  spazi ",
    "null",
    "{'a': 1}",
    "=1+1",
    "日本",
    "a|b;c",
    "-1",
)


# ---- tones

@lru_cache(512)
def tones(pieces, kind, rate_hz=RATE_HZ):
    "A file of tones, each (frequency in Hz, seconds)."
    wave = [0.4 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz) for hz, seconds in pieces]
    wave = np.concatenate(wave)
    out = io.BytesIO()
    format, subtype = KINDS[kind]
    samples = (wave * swelling(len(wave), rate_hz)).astype(np.float32)
    sf.write(out, samples, rate_hz, format=format, subtype=subtype)
    return out.getvalue()


@lru_cache(512)
def samples_of(data): return sf.read(io.BytesIO(data), dtype="float32")


def track(x, rate_hz):
    "Frequency in Hz of each tenth of a second."
    n = rate_hz // 10
    windows = [x[i:i + n] for i in range(0, len(x) - n + 1, n)] or [x]
    spectra = [np.abs(np.fft.rfft(w * np.hanning(len(w)), 8192)) for w in windows]
    return np.array([s.argmax() * rate_hz / 8192 for s in spectra])


def sounds_like(got, got_hz, wanted, wanted_hz, slack_s=0.06):
    "Whether two sounds last equally long and have the same tones at the same times."
    if abs(len(got) / got_hz - len(wanted) / wanted_hz) > slack_s: return False
    a, b = track(got, got_hz), track(wanted, wanted_hz)
    n = min(len(a), len(b))
    return bool(np.mean(np.abs(a[:n] - b[:n]) < 20) >= 0.7)


# ---- what is drawn

@dataclass(frozen=True)
class Recording:
    name: str
    pieces: tuple
    @property
    def kind(self): return self.name.rpartition(".")[2].lower()
    @property
    def data(self): return tones(self.pieces, self.kind)
    @property
    def seconds(self): return len(samples_of(self.data)[0]) / RATE_HZ
    @property
    def base(self): return posixpath.basename(self.name)
    @property
    def stem(self): return self.base.rpartition(".")[0]


@dataclass(frozen=True)
class Row:
    number: int
    recording: Recording
    split: str
    tail: str  # of its sentence
    part: tuple | None = None  # start and seconds
    odd: tuple | None = None  # field, and the value that stands there instead

    @property
    def sentence(self): return f"r{self.number} frase {self.tail}"


@dataclass(frozen=True)
class Corpus:
    layout: str
    recordings: list
    rows: list
    times: tuple  # the two columns of times
    extras: frozenset  # what else lies in its folder
    asked: tuple  # splits for train
    evaluation: str  # split for eval, or empty

    @property
    def has_times(self): return any(r.part or r.odd and r.odd[0] in ("start", "end") for r in self.rows)
    @property
    def has_splits(self): return any(r.split != "train" or r.odd and r.odd[0] == "split" for r in self.rows)
    def used(self, split): return [r for r in self.rows if r.split == split]
    @property
    def splits(self): return [s for s in SPLITS if self.used(s)]


TIMES = (("offset", "duration"), ("start", "end"), ("start_ms", "end_ms"), ("begin", "duration_ms"), ("Start", "End"))
PARTS = ((0, 0.5), (0.5, 0.5), (1.0, 0.5), (0, 1.0), (0.25, 0.5), (0.5, 1.0))
EXTRAS = (
    "pipe",
    "link_out",
    "link_in",
    "loop",
    "folder",
    "dangling",
    "table_folder",
    "table_pipe",
    "card",
    "bytes",
    "hidden",
    "lost",
)
ODD_PATHS = (
    "../outside/secret.wav",
    "gone.wav",
    "link_out.wav",
    "link_in.wav",
    "pipe.wav",
    "folder.wav",
    "loop.wav",
    "dangling.wav",
    ".",
    "..",
    "/",
    "./a.wav",
    "sub/../a.wav",
    "A.wav",
    "a.mp3",
    " a.wav ",
    "a.wav\0",
    "perche\u0301.wav",
    "sub\\a.wav",
    "~/a.wav",
    "file://a.wav",
    "a",
    "x" * 300,
    "x/" * 3000,
    {"path": "a.wav"},
    {"path": None},
    {"path": "../outside/secret.wav"},
    {"bytes": None, "path": "a.flac"},
    "{'path': 'a.wav'}",
    "{'bytes': None, 'path': '../outside/secret.wav'}",
    ["a.wav"],
    {"array": [0.1], "sampling_rate": 16000},
)
ODD_TIMES = (
    0,
    0.5,
    1,
    "1",
    "0.25",
    "0,5",
    "0:01",
    "1s",
    -1,
    -0.0,
    2.5,
    "",
    " ",
    None,
    1500,
    "1e3",
    "1_0",
    "٣",
    "nan",
    "inf",
    float("nan"),
    float("inf"),
    -float("inf"),
    10**400,
    True,
    [1],
    {"s": 1},
    "0x1",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def odd_values(name):
    if name == "path": return st.sampled_from(ODD_PATHS) | st.sampled_from(NAMES) | JSON
    if name in ("start", "end"): return st.sampled_from(ODD_TIMES) | JSON
    if name == "split": return st.sampled_from(("train", "trian", "Dev", "", None, 1, "altro", " test ")) | JSON
    return JSON


@st.composite
def corpora(draw, layouts):
    "A corpus of one layout, its rows as their writer meant them but for some fields of some."
    layout = draw(st.sampled_from(layouts))
    about = LAYOUTS[layout]
    names = draw(
        st.lists(
            st.sampled_from([n for n in NAMES if about.fits(n)]), min_size=1, max_size=4, unique_by=about.unique
        )
    )
    lengths = draw(st.lists(st.integers(0, 3), min_size=len(names), max_size=len(names)))
    recordings = [Recording(n, pieces(i, lengths[i])) for i, n in enumerate(names)]
    parts = about.parts and draw(st.booleans())
    splits = draw(st.sampled_from((("train",), ("train", "test"), SPLITS)))
    rows = [draw(row(i, recordings, parts, splits, about.odd, parts)) for i in range(draw(st.integers(1, 6)))]
    rows = about.settle(rows)
    sound = sorted({r.split for r in rows if not r.odd}, key=SPLITS.index) or [rows[0].split]
    if not any(r.odd is None for r in rows):
        rows = (
            [Row(99, recordings[0], sound[0], "tail"), *rows]
            if not about.once
            else [Row(99, rows[0].recording, rows[0].split, "tail"), *rows[1:]]
        )
    sound = sorted({r.split for r in rows if not r.odd}, key=SPLITS.index)
    alone = layout == "tar_tree" and parts  # there a recording is called so in each split by itself
    if alone: rows, sound = [replace(r, split="train") for r in rows], ["train"]
    evaluation = sound[-1] if len(sound) > 1 and draw(st.booleans()) else ""
    asked = tuple(s for s in sound if s != evaluation)
    extras = frozenset(draw(st.sets(st.sampled_from(EXTRAS), max_size=3))) if about.extras else frozenset()
    return Corpus(layout, recordings, rows, draw(st.sampled_from(about.times)), extras, asked, evaluation)


def pieces(i, length):
    "One piece, or up to three of half a second."
    hz = [300 + 60 * (3 * i + j) for j in range(3)]
    return ((hz[0], 0.4 + 0.1 * i),) if not length else tuple((f, 0.5) for f in hz[:length])


@st.composite
def row(draw, number, recordings, parts, splits, odd, times):
    part = draw(st.none() | st.sampled_from(PARTS)) if parts else None
    whole = Row(
        number, draw(st.sampled_from(recordings)), draw(st.sampled_from(splits)), draw(st.sampled_from(TAILS)), part
    )
    fields = [f for f in odd if times or f not in ("start", "end")]
    if not fields or draw(st.integers(0, 2)): return whole
    name = draw(st.sampled_from(fields))
    return Row(whole.number, whole.recording, whole.split, whole.tail, part, (name, draw(odd_values(name))))


def times_of(row, times):
    "What stands in the two columns of times."
    if row.part is None: return [None, None]
    start, seconds = row.part
    values = [start, seconds if "uration" in times[1] else start + seconds]
    return [v * 1000 if c.endswith("_ms") else v for v, c in zip(values, times)]


def values_of(row, corpus):
    "What a row's record says, by what it is: path, sentence, speaker, split, and the columns of times by their names."
    path = LAYOUTS[corpus.layout].path(row)
    record = {
        "path": path,
        "sentence": row.sentence,
        "speaker": f"r{row.number}",
        "age": "twenties",
        "split": row.split,
    }
    start, end = times_of(row, corpus.times)
    if corpus.has_times: record |= {"start": start, "end": end}
    if row.odd: record[row.odd[0]] = row.odd[1]
    return record


# ---- what a record means, read by other code

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Refused(Exception): pass


def number(value):
    if value is None or isinstance(value, str) and not value.strip() or isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, str):
        if not NUMBER.fullmatch(value.strip()): raise Refused(value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12: raise Refused(value)
    return float(value)


def part_meant(record, columns):
    "Start and seconds."
    if "start" not in record: return None, None
    unit = [0.001 if c.endswith("_ms") else 1 for c in columns]
    start, end = (None if v is None else v * u for v, u in zip((number(record["start"]), number(record["end"])), unit))
    if any(v is not None and v >= 1e9 for v in (start, end)): raise Refused
    is_end = "uration" not in columns[1]
    if start is None and (end is None or not is_end): return None, end or None
    seconds = end if end is None or not is_end else end - (start or 0)
    if seconds is not None and seconds <= 0: raise Refused
    return start or 0., seconds


def path_meant(value, corpus):
    "The recording that a value names."
    if isinstance(value, str) and value.strip().startswith("{"):
        try: value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError): pass
    if isinstance(value, dict): value = value.get("path")
    if not isinstance(value, str): raise Refused(value)
    name = unicodedata.normalize("NFC", value.strip().replace("\\", "/"))
    return LAYOUTS[corpus.layout].find(name, corpus)


def by_path(name, corpus):
    name = posixpath.normpath(name)
    if name == "link_in.wav" and "link_in" in corpus.extras: return corpus.recordings[0]
    return next((r for r in corpus.recordings if r.name == name), None) or refuse(name)


def by_stem(name, corpus):
    base = posixpath.basename(name)
    used = corpus.recordings
    found = [r for r in used if r.base == base] or [r for r in used if r.stem == stem(base)]
    return found[0] if len(found) == 1 else refuse(name)


def stem(base):
    return (
        base.rpartition(".")[0]
        if base.lower().endswith((*(f".{k}" for k in KINDS), ".aiff", ".au", ".m4a")) and base.rpartition(".")[0]
        else base
    )
def refuse(value): raise Refused(value)


def as_written(value, layout):
    "A value as the layout's file holds it."
    if LAYOUTS[layout].values == "json": return value
    if isinstance(value, str) or value is None: text = value or ""
    else: text = str(value)
    text = text.encode("utf-8", "replace").decode()
    return (
        text
        if layout in ("csv_table", "audiofolder_csv")
        else re.sub(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]", " ", text)
    )


def meaning(row, corpus):
    "Recording, start and seconds that a row's record means; `Refused` where it means none."
    about = LAYOUTS[corpus.layout]
    if about.values == "arrow": record = values_of(row, corpus)
    else: record = {k: as_written(v, corpus.layout) for k, v in values_of(row, corpus).items()}
    start, seconds = about.part(record, corpus)
    if row.odd and row.odd[0] == "split" and not isinstance(record["split"], (str, type(None))): raise Refused
    sentence = record["sentence"]
    if not isinstance(sentence, str) or any("\ud800" <= c <= "\udfff" for c in sentence): raise Refused
    return path_meant(record["path"], corpus), start, seconds, sentence


def audio_meant(recording, start, seconds):
    "Samples, and whether the recording holds them all."
    x, rate = samples_of(recording.data)
    if start is None:
        return x, (
            "all"
            if seconds is None or seconds <= len(x) / rate + 0.05
            else "perhaps" if seconds <= len(x) / rate + 0.16 else "no"
        )
    first = round(start * rate) if start < 1e6 else len(x)
    part = x[first:] if seconds is None else x[first:round(min(start + seconds, 1e6) * rate)]
    lack = 0 if seconds is None else seconds - len(part) / rate
    if seconds is not None and seconds > 30 or not len(part): return part, "no"
    return part, "all" if lack <= 0.05 else "perhaps" if lack <= 0.16 else "no"


def cleaned(text):
    text = "".join(
        c
        for c in text
        if not (
            unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85" or c == "\ufeff"
        )
    )
    return unicodedata.normalize("NFC", " ".join(text.split()))


# ---- layouts

def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return path


@dataclass(frozen=True)
class Layout:
    write: object
    values: str = "json"  # what its fields can hold: json, text or arrow
    odd: tuple = ("path", "sentence", "speaker", "split", "start", "end", "age")
    parts: bool = True
    times: tuple = TIMES
    fits: object = lambda name: True  # whether a recording can be called so
    unique: object = lambda name: name
    path: object = lambda row: row.recording.name
    find: object = by_path
    part: object = lambda record, corpus: part_meant(record, corpus.times)
    settle: object = lambda rows: rows
    once: bool = False  # whether a recording has one row
    extras: bool = True
    held: bool = False  # whether its audio lies in the rows themselves
    tokens: bool = True  # whether rows have speakers


LAYOUTS = {}


def layout(**how):
    def add(write):
        LAYOUTS[write.__name__] = Layout(write, **how)
        return write
    return add


def lay_files(root, corpus):
    for r in corpus.recordings: put(root / r.name, r.data)


def lay_extras(root, extras, recordings):
    "Put into a folder what may lie in one."
    first = recordings[0].name if (root / recordings[0].name).exists() else "."
    if "pipe" in extras: os.mkfifo(root / "pipe.wav")
    if "table_pipe" in extras: os.mkfifo(root / "zz.tsv")
    for name, kind, target in (
        ("link_out", "link_out.wav", "../outside/secret.wav"),
        ("link_in", "link_in.wav", first),
        ("loop", "loop.wav", "loop.wav"),
        ("dangling", "dangling.wav", "nowhere.wav"),
    ):
        if name in extras: (root / kind).symlink_to(target)
    for name, folder in (("folder", "folder.wav"), ("table_folder", "zz.csv"), ("lost", "lost+found")):
        if name in extras: (root / folder).mkdir()
    if "card" in extras:
        put(root / "README.md", "---\nconfigs: [&a [*a], {data_files: {split: train, path: '../**'}}]\n---\n")
    if "hidden" in extras: put(root / ".hidden.wav", tones(((2000, 0.4),), "wav"))
    if "bytes" in extras: put(Path(os.fsdecode(os.fsencode(root) + b"/\xff\xe9.wav")), tones(((2100, 0.4),), "wav"))


def table_records(corpus, columns, rows=None):
    "Records with the columns of a layout."
    names = columns | dict(zip(("start", "end"), corpus.times))
    out = []
    for r in corpus.rows if rows is None else rows:
        values = values_of(r, corpus)
        if not corpus.has_splits or "split" not in columns: values.pop("split")
        out.append({names[k]: as_written(v, corpus.layout) for k, v in values.items() if k in names})
    return out


WORDS = {"path": "path", "sentence": "text", "speaker": "speaker", "age": "age", "split": "split"}


def json_lines(records): return "".join(json.dumps(r) + "\n" for r in records)


def csv_text(records, separator=","):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator).writerows([list(records[0]), *(r.values() for r in records)])
    return out.getvalue()


def tab_text(records): return "".join("\t".join(r) + "\n" for r in [list(records[0]), *(r.values() for r in records)])


@layout()
def jsonl(root, corpus):
    lay_files(root, corpus)
    return put(root / "list.jsonl", json_lines(table_records(corpus, WORDS))).parent


@layout()
def json_list(root, corpus):
    lay_files(root, corpus)
    return put(root / "list.json", json.dumps(table_records(corpus, WORDS | {"path": "audio"}), indent=1))


@layout(values="text")
def csv_table(root, corpus):
    lay_files(root, corpus)
    return put(root / "list.csv", csv_text(table_records(corpus, WORDS)))


@layout(values="text")
def tsv_table(root, corpus):
    lay_files(root, corpus)
    return put(root / "list.tsv", tab_text(table_records(corpus, WORDS | {"sentence": "sentence"}))).parent


@layout(values="text", path=lambda row: row.recording.name)
def audiofolder_csv(root, corpus):
    lay_files(root, corpus)
    return put(
        root / "metadata.csv",
        csv_text(table_records(corpus, WORDS | {"path": "file_name", "sentence": "transcription"})),
    ).parent


@layout()
def audiofolder_jsonl(root, corpus):
    lay_files(root, corpus)
    return put(root / "metadata.jsonl", json_lines(table_records(corpus, WORDS | {"path": "file_name"}))).parent


def nemo_part(record, corpus):
    start, seconds = part_meant(record, corpus.times)
    return (0., seconds) if start is None and seconds else (start, seconds)


@layout(odd=("path", "sentence", "speaker", "start", "end", "age"), times=(("offset", "duration"),), part=nemo_part)
def nemo(root, corpus):
    lay_files(root, corpus)
    for s in corpus.splits:
        put(
            root / f"{FILES[s]}_manifest.json",
            json_lines(
                table_records(
                    corpus,
                    {"path": "audio_filepath", "sentence": "text", "speaker": "speaker", "age": "age"},
                    corpus.used(s),
                )
            ),
        )
    return root


def kaldi_part(record, corpus):
    if "start" not in record: return None, None
    start, end = record["start"] or "0", record["end"] or "-1"
    if len(start.split()) != 1 or len(end.split()) != 1: raise Refused
    if re.fullmatch(r"-1(\.0*)?", end): return part_meant({"start": start, "end": None}, corpus.times)
    return part_meant({"start": start, "end": end}, corpus.times)


@layout(values="text", odd=("sentence", "speaker", "start", "end"), times=(("start", "end"),), part=kaldi_part)
def kaldi(root, corpus):
    lay_files(root, corpus)
    for s in corpus.splits:
        rows = [
            (f"u{r.number}", r, {k: as_written(v, corpus.layout) for k, v in values_of(r, corpus).items()})
            for r in corpus.used(s)
        ]
        where = root / FILES[s]
        if corpus.has_times:
            keys = {r.name: f"rec{i}" for i, r in enumerate(corpus.recordings)}
            put(
                where / "segments",
                "".join(
                    f"{k} {keys[r.recording.name]} {v['start'] or '0'} {v['end'] or '-1'}\n" for k, r, v in rows
                ),
            )
            put(where / "wav.scp", "".join(f"{k} {root / n}\n" for n, k in keys.items()))
        else: put(where / "wav.scp", "".join(f"{k} {root / r.recording.name}\n" for k, r, _ in rows))
        put(where / "text", "".join(f"{k} {v['sentence']}\n" for k, _, v in rows))
        put(where / "utt2spk", "".join(f"{k} {v['speaker']}\n" for k, _, v in rows))
    return root


CV = {"speaker": "client_id", "path": "path", "sentence": "sentence", "age": "age"}
FLAT = {
    "values": "text",
    "odd": ("path", "sentence", "speaker", "start", "end", "age"),
    "fits": lambda name: "/" not in name,
    "find": by_stem,
}


@layout(**FLAT)
def tar_tree(root, corpus):
    for s in corpus.splits:
        put(root / f"transcript/it/{FILES[s]}.tsv", tab_text(table_records(corpus, CV, corpus.used(s))))
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for r in corpus.recordings: tar.addfile(member(f"it_{s}_0/{r.name}", len(r.data)), io.BytesIO(r.data))
        put(root / f"audio/it/{FILES[s]}/it_{s}_0.tar", out.getvalue())
    return root


def member(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


@layout(**FLAT)
def release(root, corpus):
    lay_release(root, corpus)
    return root


def lay_release(root, corpus):
    for s in corpus.splits: put(root / f"it/{FILES[s]}.tsv", tab_text(table_records(corpus, CV, corpus.used(s))))
    for r in corpus.recordings: put(root / "it/clips" / r.name, r.data)


@layout(**FLAT, extras=False, unique=lambda name: name.rpartition(".")[0])
def archive(root, corpus):
    lay_release(root / "unpacked", corpus)
    with tarfile.open(root / "it.tar.gz", "w:gz", compresslevel=1) as tar: tar.add(root / "unpacked", "cv-corpus")
    return root / "it.tar.gz"


def arrow_rows(corpus, rows, audio):
    "Rows as columns; of a value that a column can't hold, null."
    records = [values_of(r, corpus) for r in rows]
    text = lambda v: v.encode("utf-8", "replace").decode() if isinstance(v, str) else None
    columns = {
        "audio": audio([(r, text(v["path"])) for r, v in zip(rows, records)]),
        "text": [text(v["sentence"]) for v in records],
        "speaker_id": [text(v["speaker"]) for v in records],
    }
    real = lambda v: (
        float(v)
        if isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e300 or isinstance(v, float)
        else None
    )
    if corpus.has_times:
        columns |= {
            c: pa.array([real(v[k]) for v in records], pa.float64()) for k, c in zip(("start", "end"), corpus.times)
        }
    return pa.table(columns)


def arrow_meaning(path=True):
    def part(record, corpus):
        for k, v in record.items():
            if k in ("start", "end"):
                record[k] = (
                    v
                    if isinstance(v, float) or isinstance(v, int) and not isinstance(v, bool) and abs(v) < 1e300
                    else None
                )
            elif not isinstance(v, str): record[k] = None
        record["sentence"] = record["sentence"] or ""
        return part_meant(record, corpus.times)
    return part


def held_audio(pairs):
    return pa.array(
        [{"bytes": r.recording.data, "path": p} for r, p in pairs],
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    )


ARROW = {"values": "arrow", "part": arrow_meaning(), "extras": False}


@layout(**ARROW, odd=("sentence", "speaker", "start", "end"), held=True)
def parquet(root, corpus):
    for s in corpus.splits:
        pq_write(root / f"data/{FILES[s]}-00000-of-00001.parquet", arrow_rows(corpus, corpus.used(s), held_audio))
    return root


def pq_write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)


@layout(**ARROW | {"extras": True}, odd=("path", "sentence", "speaker", "start", "end"))
def parquet_paths(root, corpus):
    lay_files(root, corpus)
    for s in corpus.splits:
        pq_write(
            root / f"{FILES[s]}.parquet",
            arrow_rows(corpus, corpus.used(s), lambda pairs: pa.array([p for _, p in pairs], pa.string())),
        )
    return root


@layout(**ARROW, odd=("sentence", "speaker", "start", "end"), held=True)
def saved(root, corpus):
    from datasets import Dataset, DatasetDict, disable_progress_bars
    disable_progress_bars()
    DatasetDict({s: Dataset(arrow_rows(corpus, corpus.used(s), held_audio)) for s in corpus.splits}).save_to_disk(
        str(root)
    )
    return root


def first_rows(rows):
    "One row a recording, because its folder gives it its split."
    found = {}
    for r in rows: found.setdefault(stem(r.recording.name), r)
    return list(found.values())


TREE = {
    "values": "text",
    "odd": ("sentence",),
    "parts": False,
    "tokens": False,
    "settle": first_rows,
    "once": True,
    "unique": lambda name: posixpath.basename(name).rpartition(".")[0],
}


@layout(**TREE, fits=lambda name: " " not in name)
def librispeech(root, corpus):
    for s in corpus.splits:
        rows = corpus.used(s)
        for r in rows: put(root / FILES[s] / r.recording.name, r.recording.data)
        put(
            root / FILES[s] / "1-2.trans.txt",
            "".join(
                f"{r.recording.stem} {as_written(values_of(r, corpus)['sentence'], corpus.layout)}\n" for r in rows
            ),
        )
    return root


@layout(**TREE)
def texts_beside(root, corpus):
    for s in corpus.splits:
        for r in corpus.used(s):
            put(root / FILES[s] / r.recording.name, r.recording.data)
            put(
                (root / FILES[s] / r.recording.name).with_suffix(".txt"),
                as_written(values_of(r, corpus)["sentence"], corpus.layout),
            )
    return root


if find_spec("audio_ft_prep.tarred"):
    @layout(odd=("sentence", "speaker", "start", "end", "age"), held=True, path=lambda row: row.recording.name)
    def webdataset(root, corpus):
        for s in corpus.splits:
            out = io.BytesIO()
            with tarfile.open(fileobj=out, mode="w") as tar:
                for r, record in zip(
                    corpus.used(s),
                    table_records(
                        corpus, {k: v for k, v in WORDS.items() if k not in ("path", "split")}, corpus.used(s)
                    ),
                ):
                    text = json.dumps(record).encode()
                    tar.addfile(
                        member(f"k{r.number}.{r.recording.kind}", len(r.recording.data)),
                        io.BytesIO(r.recording.data),
                    )
                    tar.addfile(member(f"k{r.number}.json", len(text)), io.BytesIO(text))
            put(root / f"{FILES[s]}-0.tar", out.getvalue())
        return root

    @layout(odd=("path", "sentence", "speaker", "start", "end", "age"), times=(("offset", "duration"),), held=True)
    def tarred_nemo(root, corpus):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for r in corpus.recordings: tar.addfile(member(r.name, len(r.data)), io.BytesIO(r.data))
        put(root / "audio_0.tar", out.getvalue())
        for s in corpus.splits:
            put(
                root / f"{FILES[s]}_manifest.json",
                json_lines(
                    table_records(
                        corpus,
                        {"path": "audio_filepath", "sentence": "text", "speaker": "speaker", "age": "age"},
                        corpus.used(s),
                    )
                ),
            )
        return root


# ---- the judge

def state(*roots):
    "Everything below some folders: kind, mode, time and content."
    found = {}
    for root in roots:
        for folder, folders, files in os.walk(os.fsencode(root)):
            for name in [b".", *folders, *files]:
                path = os.path.join(folder, name)
                about = os.lstat(path)
                content = (
                    os.readlink(path)
                    if stat.S_ISLNK(about.st_mode)
                    else open(path, "rb").read() if stat.S_ISREG(about.st_mode) else b""
                )
                found[path] = (about.st_mode, about.st_mtime_ns, content)
    return found


@dataclass
class Outcome:
    kept: list = field(default_factory=list)  # (role, example, samples, rate)
    rejects: list = field(default_factory=list)  # as `REJECTS` has them
    error: str = ""


def row_of(example, rows):
    "The row that an example was made of, by sentence or speaker."
    for text in (example["sentence"], example["speaker"]):
        m = re.match(r"r(\d+)( frase|$)", text)
        if m: return next(r for r in rows if r.number == int(m[1]))
    raise AssertionError(f"nobody wrote {example['sentence']!r} of {example['speaker']!r}")


def judge(outcome, corpus):
    "Fail where what came of a corpus isn't what its rows say."
    about = LAYOUTS[corpus.layout]
    if outcome.error: raise AssertionError(f"a corpus with good rows ended in: {outcome.error}")
    asked = {"train": corpus.asked, "eval": (corpus.evaluation,)}
    ids = Counter((role, example["id"]) for role, example, *_ in outcome.kept)
    assert not ids or max(ids.values()) == 1, ids.most_common(1)
    heard = {}
    for role, example, samples, rate_hz in outcome.kept:
        row = row_of(example, corpus.rows) if about.tokens or example["sentence"].startswith("r") else None
        if row is None: row = by_sentence(example["sentence"], corpus)
        assert row.number not in [r for r, _ in heard], f"row {row.number} is kept twice"
        heard[row.number, role] = judge_clip(row, corpus, example, samples, rate_hz)
        assert row.split in asked[role] or row.odd and row.odd[0] == "split", (row, role)
    judge_numbers(outcome, corpus, asked)
    judge_lost(outcome, corpus, heard, asked)


def by_sentence(sentence, corpus):
    found = [r for r in corpus.rows if cleaned(as_written(values_of(r, corpus)["sentence"], corpus.layout)) == sentence]
    assert found, f"nobody wrote {sentence!r}"
    return found[0]


def judge_clip(row, corpus, example, samples, rate_hz):
    "Whether a kept row has its audio and its sentence; what it means."
    about = LAYOUTS[corpus.layout]
    try: recording, start, seconds, sentence = meaning(row, corpus)
    except Refused as e: raise AssertionError(f"kept, and can't be read: {row}, {e}") from None
    wanted, holds = audio_meant(recording, start, seconds)
    whole = samples_of(recording.data)[0]
    fits = holds != "no" and sounds_like(samples, rate_hz, wanted, RATE_HZ)
    if not fits and about.held:
        fits = is_clip_itself(len(whole) / RATE_HZ, start, seconds) and sounds_like(samples, rate_hz, whole, RATE_HZ)
    assert fits, (
        f"other audio: {row} means {recording.name} {start} {seconds}, {len(samples) / rate_hz:.2f} s with"
        f" {track(samples, rate_hz)}"
    )
    assert example["sentence"] == cleaned(sentence), (example["sentence"], sentence)
    return recording.name, start, seconds


def is_clip_itself(lasts, start, seconds):
    "Whether times of a row that holds its audio can be those at which it was cut out of something longer."
    if start is None: return False
    if seconds is None: return start >= lasts
    return abs(lasts - seconds) < 0.31 or start >= lasts and abs(lasts - seconds) < max(1, 0.1 * seconds) + 0.01


def judge_numbers(outcome, corpus, asked):
    "Rows in are kept or rejects."
    for role, splits in asked.items():
        kept = sum(r == role for r, *_ in outcome.kept)
        rejects = [r for r in outcome.rejects if r["split"] == role]
        rows = [r for r in corpus.rows if r.split in splits]
        unsure = [r for r in corpus.rows if r.odd and r.odd[0] == "split"]
        told = sum(r["reason"] not in ("no_row", "duplicate_audio") for r in rejects)
        least, most = sum(r not in unsure for r in rows), len([r for r in rows if r not in unsure]) + len(unsure)
        assert (
            least <= kept + told <= most
        ), f"{role}: {least} to {most} rows in, {kept} kept, {told} rejects: {rejects}"


def judge_lost(outcome, corpus, heard, asked):
    "A good row's clip is kept once, by that row or another of its clip."
    held = {(role, what) for (_, role), what in heard.items()}
    for row in corpus.rows:
        role = next((role for role, splits in asked.items() if row.split in splits), None)
        if row.odd or role is None: continue
        recording, start, seconds, _ = meaning(row, corpus)
        if audio_meant(recording, start, seconds)[1] != "all": continue
        what = (recording.name, start, seconds)
        if LAYOUTS[corpus.layout].held and any(name == recording.name for name, *_ in heard.values()): continue  # times of audio that is there may mean all of it
        if any(r.odd and (r.recording == row.recording or r.odd[0] == "path") for r in corpus.rows): continue  # the first row of a clip stands for it, whatever becomes of it
        assert (role, what) in held or ("eval", what) in held, f"lost: {row}, {outcome.rejects}"
