"Recordings with captions: each format gives the same rows, and a file that can't be read costs itself."
import io, json

import numpy as np, pytest, soundfile as sf

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.captionfiles import CAPTION_FORMATS
from audio_ft_prep.captions import inspect_captions, read_captions
from audio_ft_prep.captiontext import read_caption
from audio_ft_prep.load import source_kind
from conftest import SAMPLE, tar_clips

pytestmark = pytest.mark.light
SAID = [(1.0, 3.0, "Buongiorno a tutti."), (3.5, 6.0, "La seduta è aperta."), (7.0, 9.0, "Chi chiede la parola?")]
OF_OTHERS = {".textgrid": "praatio", ".eaf": "pympi"}


def stamp(seconds, mark=","): return f"00:00:{int(seconds):02d}{mark}{round(seconds % 1 * 1000):03d}"


def srt(said=SAID):
    return "\n".join(f"{n}\n{stamp(a)} --> {stamp(b)}\n{t}\n" for n, (a, b, t) in enumerate(said, 1))


def vtt(said=SAID):
    return "WEBVTT\n\n" + "\n".join(f"{stamp(a, '.')} --> {stamp(b, '.')}\n{t}\n" for a, b, t in said)


def ass(said=SAID):
    head = "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
    head += "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    times = [(f"0:00:{a:05.2f}", f"0:00:{b:05.2f}", t) for a, b, t in said]
    return head + "".join(f"Dialogue: 0,{a},{b},Default,,0,0,0,,{t}\n" for a, b, t in times)


def grid(said=SAID):
    marks = "".join(
        f'        intervals [{n}]:\n            xmin = {a}\n            xmax = {b}\n            text = "{t}"\n'
        for n, (a, b, t) in enumerate(said, 1)
    )
    return (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 10\ntiers? <exists>\nsize = 1\n'
        'item []:\n    item [1]:\n        class = "IntervalTier"\n        name = "utterances"\n        xmin = 0\n'
        f"        xmax = 10\n        intervals: size = {len(said)}\n{marks}"
    )


def eaf(said=SAID):
    slots, notes = "", ""
    for n, (a, b, t) in enumerate(said):
        for k, at in (("a", a), ("b", b)):
            slots += f'<TIME_SLOT TIME_SLOT_ID="{k}{n}" TIME_VALUE="{round(at * 1000)}"/>'
        refs = f'TIME_SLOT_REF1="a{n}" TIME_SLOT_REF2="b{n}"'
        value = f"<ANNOTATION_VALUE>{t}</ANNOTATION_VALUE>"
        note = f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="n{n}" {refs}>{value}</ALIGNABLE_ANNOTATION>'
        notes += f"<ANNOTATION>{note}</ANNOTATION>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T00:00:00"'
        ' FORMAT="3.0" VERSION="3.0"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">'
        '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>'
        f'<TIME_ORDER>{slots}</TIME_ORDER><TIER TIER_ID="utterances" LINGUISTIC_TYPE_REF="u">{notes}</TIER>'
        '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="u" TIME_ALIGNABLE="true"/></ANNOTATION_DOCUMENT>'
    )


def ctm(said=SAID):
    lines = []
    for a, b, t in said:
        words = t.split()
        each = (b - a) / len(words)
        lines += [f"talk 1 {a + i * each:.3f} {each:.3f} {w}\n" for i, w in enumerate(words)]
    return "".join(lines)


WRITERS = {
    ".srt": srt, ".vtt": vtt, ".ass": ass, ".ssa": ass, ".textgrid": grid, ".eaf": eaf, ".ctm": ctm,
    ".stm": lambda: "".join(f"talk 1 anna {a} {b} <o> {t}\n" for a, b, t in SAID),
    ".rttm": lambda: "".join(f"SPEAKER talk 1 {a} {b - a} <NA> <NA> anna <NA>\n" for a, b, _ in SAID),
    ".json": lambda: json.dumps({"segments": [{"start": a, "end": b, "text": f" {t}"} for a, b, t in SAID]}),
    ".txt": lambda: "".join(f"{a}\t{b}\t{t}\n" for a, b, t in SAID),
}


@pytest.fixture
def talk(tmp_path):
    "A folder with a recording of ten seconds."
    sf.write(tmp_path / "talk.wav", np.sin(np.arange(80_000) / 9) / 4, 8000)
    return tmp_path


def rows_of(folder, **settings):
    corpus = read_captions(PrepConfig(str(folder), "it", train_splits="train", eval_splits="", **settings), folder)
    return corpus.rows.select(["start", "seconds", "sentence"]).to_pylist(), corpus.rejects.to_pylist()


@pytest.mark.parametrize("ending", CAPTION_FORMATS)
def test_each_format_gives_the_same_rows(talk, ending):
    if ending in OF_OTHERS: pytest.importorskip(OF_OTHERS[ending])
    (talk / f"talk{ending}").write_text(WRITERS[ending](), encoding="utf-8")
    if ending == ".rttm": (talk / "talk.txt").write_text("".join(f"{t}\n" for *_, t in SAID), encoding="utf-8")
    assert source_kind(talk) == "captions"
    rows, rejects = rows_of(talk)
    assert rejects == [] and [r["sentence"] for r in rows] == [t for *_, t in SAID]
    assert [(round(r["start"], 2), round(r["start"] + r["seconds"], 2)) for r in rows] == [s[:2] for s in SAID]


@pytest.mark.parametrize(
    "written, text, speaker",
    [
        ("<v Anna Rossi>Ciao", "Ciao", "Anna Rossi"),
        ("ROSSI: Ciao", "Ciao", "ROSSI"),
        (">> DR. ROSSI: Ciao", "Ciao", "DR. ROSSI"),
        ("- Ciao.\n- Salve.", "Ciao. Salve.", ""),
        ("{\\an8}{\\i1}Ciao{\\i0}", "Ciao", ""),
        ("<font color='#fff'>Ciao</font> &amp; salve", "Ciao & salve", ""),
        ("[ride] Ciao", "Ciao", ""),
        ("(RIDE)\nCiao", "Ciao", ""),
        ("Due (o tre) volte", "Due (o tre) volte", ""),
        ("3 < 4 e 5 > 2", "3 < 4 e 5 > 2", ""),
        ("♪ la la la ♪", "", ""),
        ("[musica]", "", ""),
        ("Untertitel im Auftrag des ZDF", "", ""),
        ("Visit www.example.com", "", ""),
        ("...", "", ""),
    ],
)
def test_words_and_speaker_are_what_is_left_of_a_caption(written, text, speaker):
    said = read_caption(written)
    assert (said.text, said.speaker) == (text, speaker)


def test_every_caption_is_a_row_or_joined_to_one_or_a_reject_with_its_reason(talk):
    said = [
        (0.0, 1.0, "Questa è"), (1.0, 2.0, "una frase."), (2.0, 3.0, "[applausi]"), (4.0, 3.5, "Prima."),
        (5.0, 7.0, "Uno parla."), (5.5, 6.5, "Un altro anche."), (8.0, 9.0, "Sottotitoli di Anna"),
        (9.0, 9.5, "Offerto da Radio Uno"),
    ]
    (talk / "talk.srt").write_text(srt(said), encoding="utf-8")
    (talk / "credits.txt").write_text("offerto da radio uno\n", encoding="utf-8")
    rows, rejects = rows_of(talk)
    assert [r["sentence"] for r in rows] == ["Questa è una frase."]
    reasons = sorted(r["reason"] for r in rejects)
    assert reasons == ["bad_row", "not_speech", "not_speech", "not_speech", "overlap", "overlap"]
    assert len(rows) + len(rejects) + 1 == len(said)  # one was joined
    notes = inspect_captions(talk)[""]["train"]["notes"]
    assert any("talk.srt: 8 captions, 1 rows" in note for note in notes)


def test_captions_of_the_language_asked_for_are_taken(talk):
    (talk / "talk.it.srt").write_text(srt(), encoding="utf-8")
    (talk / "talk.en.srt").write_text(srt([(1, 2, "Good morning.")]), encoding="utf-8")
    assert [r["sentence"] for r in rows_of(talk)[0]] == [t for *_, t in SAID]


@pytest.mark.parametrize(
    "name, text, why",
    [
        ("talk.srt", "no captions at all \udce9", "UTF-8"),
        ("talk.json", "{", "is no JSON"),
        ("talk.json", '{"segments": [{"start": NaN, "end": 2, "text": "x"}]}', "start must be a number"),
        ("talk.stm", "talk 1 anna\n", "line 1: expected recording"),
        ("talk.rttm", "SPEAKER talk 1 0 1 <NA> <NA> anna <NA>\n", "talk.txt"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_reject_that_names_it(talk, name, text, why):
    (talk / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    sf.write(talk / "other.wav", np.zeros(8000), 8000)
    (talk / "other.srt").write_text(srt(SAID[:1]).replace("00:00:03", "00:00:02"), encoding="utf-8")
    rows, rejects = rows_of(talk)
    (reject,) = rejects
    assert len(rows) == 1 and reject["reason"] == "bad_row" and name in reject["detail"] and why in reject["detail"]


def test_a_table_names_recordings_captions_languages_speakers_and_splits(talk):
    (talk / "subs").mkdir()
    (talk / "subs/one.vtt").write_text(vtt(), encoding="utf-8")
    lines = "recording,captions,language,speaker,split\ntalk.wav,subs/one.vtt,it,ada,train\ntalk.wav,../x.vtt,it,,train"
    (talk / "captions.csv").write_text(lines, encoding="utf-8")
    corpus = read_captions(PrepConfig(str(talk), "it", train_splits="train", eval_splits=""), talk)
    assert set(corpus.rows["speaker"].to_pylist()) == {"ada"} and len(corpus.rows) == 3
    assert corpus.rejects["reason"].to_pylist() == ["bad_row"]


def test_recordings_stay_whole_when_splits_are_dealt_out(talk):
    for i in range(12):
        sf.write(talk / f"talk{i}.wav", np.zeros(80_000), 8000)
        (talk / f"talk{i}.srt").write_text(srt(), encoding="utf-8")
    rows = read_captions(PrepConfig(str(talk), "it"), talk).rows
    splits = {}
    for row in rows.select(["file", "source_split"]).to_pylist():
        splits.setdefault(row["file"], set()).add(row["source_split"])
    assert all(len(s) == 1 for s in splits.values()) and len(set.union(*splits.values())) == 3


def test_a_recording_with_subtitles_is_prepared(tmp_path):
    pytest.importorskip("torch")
    clips = [sf.read(io.BytesIO(clip), dtype="float32") for clip in tar_clips(SAMPLE, "it", "test").values()]
    parts, said, at = [], [], 0.0
    for n, (samples, rate) in enumerate([clip for clip in clips if clip[0].ndim == 1][:3]):
        parts += [samples, np.zeros(rate // 2, np.float32)]
        said.append((at, at + len(samples) / rate, f"Frase {n}."))
        at = said[-1][1] + 0.5
    (tmp_path / "c").mkdir()
    sf.write(tmp_path / "c/talk.wav", np.concatenate(parts), rate)
    (tmp_path / "c/talk.srt").write_text(srt(said), encoding="utf-8")
    only_train = dict(train_splits="train", eval_splits="")
    cfg = PrepConfig(str(tmp_path / "c"), "it", output_dir=str(tmp_path / "out"), **only_train)
    counts = prepare(cfg, progress=False).counts["train"]
    assert (counts["rows"], counts["kept"], counts["rejects"]) == (3, 3, {})
    assert counts["samples"] / 16000 == pytest.approx(at - 1.5, abs=0.01)


@pytest.mark.parametrize("ending", ["mp3", "ogg"])
def test_a_recording_that_cannot_be_opened_is_a_reject_for_each_of_its_captions(tmp_path, ending):
    pytest.importorskip("torch")
    from audio_ft_prep.audio import Limits
    from audio_ft_prep.example import row_sound
    from audio_ft_prep.rejects import BadClip
    begin = {"mp3": b"\xff\xfb\x90\x64", "ogg": b"OggS\0\2"}[ending]
    (tmp_path / f"talk.{ending}").write_bytes(begin + bytes(5000))
    row = dict(file=str(tmp_path / f"talk.{ending}"), offset=0, size=5000 + len(begin))
    for start in (0.0, 2.0):
        with pytest.raises(BadClip): row_sound(row | dict(start=start, seconds=1.0), Limits(16000, 0.0, 30.0))
