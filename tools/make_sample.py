"""Write the sample corpus that ships with the package: synthetic voices in the Common Voice layout, with known warts.

    python tools/make_sample.py            # needs espeak-ng and lame; users of the package need neither

Sentences, speakers and warts are in the tables below; the README of the corpus is written from the same tables, so its
counts are the corpus's. The same espeak-ng and lame write the same bytes.
"""
from __future__ import annotations

import hashlib, io, json, shutil, subprocess, tarfile, tempfile, wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from fastcore.script import call_parse

OUT = Path(__file__).resolve().parents[1] / "audio_ft_prep/data/sample"
COLUMNS = ("client_id path sentence_id sentence sentence_domain up_votes down_votes age gender accents variant locale "
           "segment").split()
FIRST_NUMBER = dict(it=41000001, en=52000001, de=63000001)
MP3 = dict(it=(40, 48), en=(40, 48), de=(32, 24))    # kbit/s on average (ABR), kHz: at a constant rate below 64 LAME's frames
                                                     # are too short to hold its header

# name: (espeak-ng voice, pitch, words a minute, age, gender); only lena and petra speak in two splits
SPEAKERS = dict(
    giulia=("it+f2", 50, 150, "twenties", "female_feminine"), marco=("it+m3", 45, 160, "thirties", "male_masculine"),
    elena=("it+f4", 55, 165, "", ""), paolo=("it+m7", 40, 155, "fifties", "male_masculine"),
    sara=("it+Annie", 52, 155, "thirties", "female_feminine"), luca=("it+m1", 50, 165, "", "male_masculine"),
    chiara=("it+steph", 48, 158, "forties", "female_feminine"),
    dario=("it+Diogo", 42, 150, "sixties", "male_masculine"),
    alice=("en-us+f3", 50, 155, "twenties", "female_feminine"), ben=("en-gb+m3", 45, 160, "forties", "male_masculine"),
    fiona=("en-gb-scotland+f5", 52, 160, "", ""), george=("en-us+m4", 40, 165, "sixties", "male_masculine"),
    hannah=("en-gb-x-rp+f1", 55, 155, "thirties", "female_feminine"),
    ian=("en-us+Denis", 45, 160, "", "male_masculine"),
    julia=("en-gb+Alicia", 50, 170, "fifties", "female_feminine"),
    ken=("en-gb-x-rp+m2", 42, 155, "twenties", "male_masculine"),
    lena=("de+f2", 50, 165, "twenties", "female_feminine"), moritz=("de+m3", 45, 165, "thirties", "male_masculine"),
    nora=("de+Annie", 52, 160, "", ""), otto=("de+m1", 48, 170, "fifties", "male_masculine"),
    petra=("de+f4", 52, 165, "forties", "female_feminine"),
)

# wart: (what is wrong, what a reader should do with it: keep it, or reject it for this reason)
WARTS = dict(
    truncated=("MP3 cut at 60 % of its bytes; its header still tells the whole length", "truncated"),
    empty_audio=("audio file of 0 bytes", "empty_audio"),
    silent=("MP3 of digital silence", "silent"),
    undecodable=("an HTML error page in place of the MP3", "undecodable"),
    missing_audio=("row whose audio is not in the tar", "missing_audio"),
    no_row=("audio that no row names", "no_row"),
    duplicate_row=("row given twice: the first is kept, the second is not", "duplicate_row"),
    empty_sentence=("sentence of three spaces", "empty_sentence"),
    quote=("sentence with one unbalanced double quote", "kept"),
    na=("sentence `NA`", "kept"),
    no_suffix=("path without `.mp3`", "kept"),
    wav=("16 kHz WAV bytes under an `.mp3` name", "kept"),
    stereo=("stereo MP3 at 44.1 kHz, the right channel quieter", "kept"),
)

# fault: (what is wrong, what is found: a flag, a reject reason, a kind of leak, or nothing)
FAULTS = dict(
    noisy=("white noise, 3 dB below the voice", "low_snr"),
    noise=("white noise and no voice", "no_modulation"),
    hum=("50 Hz hum and no voice", "no_modulation"),
    overdriven=("12 dB too loud, cut off at full scale", "clipped"),
    offset=("samples around 0.05", "dc"),
    phone=("nothing above 3.4 kHz", "telephone"),
    late=("3 s of silence before the voice", "edges"),
    pause=("2 s of silence between the words", "gap"),
    faint=("turned down until its peak is at -58 dBFS", "quiet"),
    wrong_sentence=("the sentence of a longer clip", ""),
    digits=("digits", "digits"),
    symbols=("a percent sign", "symbols"),
    url=("the address of a page", "urls"),
    brackets=("a remark in brackets", "brackets"),
    capitals=("capitals only", "capitals"),
    reported=("reported by a listener", "reported"),
    speaker=("the speaker has a clip in test", "leak: speakers"),
    sentence=("the sentence of a clip in test", "leak: sentences"),
    audio=("the file of a clip in test, under another name", "leak: audio"),
)
REPORTED = "grammar-or-spelling"    # as Common Voice calls it

# speaker | wart or fault | sentence
CORPUS = {("it", "train"): """
giulia | | Stamattina il caffè era già freddo.
giulia | | L'autobus numero 12 passa ogni quarto d'ora.
giulia | quote | Mia nonna diceva: "chi va piano va sano.
giulia | truncated | Domani andiamo al mare, se non piove tutto il giorno.
giulia | | Perché non mi hai chiamato ieri sera?
giulia | | Vorrei due etti di prosciutto, grazie.
marco | | Ho comprato un chilo di pomodori al mercato.
marco | empty_audio | La finestra della cucina non si chiude bene.
marco | | Il treno per Trento parte alle 7:45.
marco | no_suffix | Qui d'estate fa troppo caldo per dormire.
marco | silent | Abbassa la voce, il bambino dorme.
marco | | La partita comincia alle nove, ma lui è in ritardo.
elena | | Che bella sorpresa, non ti aspettavo!
elena | | La farmacia è chiusa, però quella in piazza è aperta.
elena | undecodable | Ti mando le foto appena torno a casa.
elena | wav | Sì, va bene.
elena | duplicate_row | Quest'anno l'uva è più dolce del solito.
paolo | | Mio fratello lavora in un'officina vicino all'aeroporto.
paolo | missing_audio | Prendi l'ombrello, fra poco piove.
paolo | | Ci vogliono 3 uova e 200 grammi di farina.
paolo | no_row | Il gatto dorme sul divano.
paolo | empty_sentence | Forse domani.
paolo | | Nel 1998 abitavamo ancora in città.
""", ("it", "dev"): """
sara | | Il film di ieri sera era un po' noioso.
sara | na | NA
luca | | Hai già prenotato l'albergo per agosto?
luca | | La riunione è spostata a giovedì mattina.
""", ("it", "test"): """
chiara | | Metti il sale nell'acqua prima della pasta.
chiara | stereo | Dov'è finita la mia sciarpa blu?
dario | | Da giovane andavo a scuola in bicicletta.
dario | | Così non va: bisogna ricominciare da capo.
""", ("en", "train"): """
alice | | The kettle is on, would you like some tea?
alice | quote | She shouted "wait for me and ran after the bus.
alice | | We met at a little café by the river.
ben | | Turn left after the bridge, then it's the 2nd door.
ben | truncated | My neighbour grows tomatoes, beans and a few herbs.
ben | | Don't forget to water the plants while I'm away.
fiona | | The library closes at 6 on Saturdays.
fiona | | He's the nicest dentist I've ever had!
fiona | na | NA
fiona | | There's a naïve charm about that old song.
george | | Bread, milk, eggs: is that everything?
george | | In 1985 this street was nothing but fields.
""", ("en", "dev"): """
hannah | | My sister's flight lands at half past nine.
hannah | | Could you speak a bit more slowly, please?
ian | | The soup needs salt; otherwise it's perfect.
ian | | Nobody told us the road was closed.
""", ("en", "test"): """
julia | | The children built a den under the table.
julia | | What's the quickest way to the station?
julia | missing_audio | We painted the kitchen yellow last weekend.
ken | | I'll be there in 20 minutes or so.
ken | | Her résumé was only one page long.
""", ("de", "train"): """
moritz | | Wir essen heute draußen.
moritz | | Das Fenster klemmt schon wieder.
moritz | noisy | Der Bus kommt gleich.
moritz | noise | Ich habe nichts gehört.
moritz | hum | Der Kühlschrank ist neu.
moritz | overdriven | Bitte nicht so laut.
nora | | Die Suppe ist noch heiß.
nora | offset | Morgen regnet es bestimmt.
nora | phone | Ich rufe dich später an.
nora | late | Warte kurz auf mich.
nora | pause | Links, dann rechts.
nora | faint | Leise, das Kind schläft.
nora | wrong_sentence | Na gut. = Gestern Abend haben wir lange über den nächsten Sommer und die alte Hütte gesprochen.
otto | | Kannst du mir helfen?
otto | digits | Er wohnt im Haus 12.
otto | symbols | Das sind fast 5 %.
otto | url | Mehr steht auf www.beispiel.de dazu.
otto | brackets | Das war [lacht] knapp.
otto | capitals | HIER NICHT PARKEN
otto | reported | Wegen dem Regen bleiben wir.
lena | speaker | Ich nehme den frühen Zug.
otto | sentence | Die Tür ist offen.
petra | audio | Wo ist mein Schlüssel?
""", ("de", "dev"): """
moritz | | Der Kaffee schmeckt bitter.
""", ("de", "test"): """
lena | | Die Tür ist offen.
lena | | Das Brot ist schon alle.
petra | | Wo ist mein Schlüssel?
"""}


@dataclass(frozen=True)
class Clip:
    "One line of the tables above, with its number."
    lang: str; split: str; speaker: str; wart: str; sentence: str; number: int

    @property
    def name(self): return f"common_voice_{self.lang}_{self.number}"
    @property
    def spoken(self): return self.sentence.partition(" = ")[0]
    @property
    def written(self): return self.sentence.partition(" = ")[2] or self.sentence


def clips() -> list[Clip]:
    out, number = [], dict(FIRST_NUMBER)
    for (lang, split), text in CORPUS.items():
        for line in text.strip().splitlines():
            speaker, wart, sentence = (s.strip() for s in line.split("|"))
            out.append(Clip(lang, split, speaker, wart, sentence, number[lang]))
            number[lang] += 1
    return out


def speech(clip: Clip, tmp: Path) -> tuple[np.ndarray, int]:
    "int16 samples and rate, as espeak-ng says the sentence."
    voice, pitch, speed, *_ = SPEAKERS[clip.speaker]
    to = tmp / "speech.wav"
    run("espeak-ng", "-v", voice, "-p", pitch, "-s", speed, "-w", to, "--", clip.spoken)
    with wave.open(str(to)) as w: return np.frombuffer(w.readframes(w.getnframes()), "<i2"), w.getframerate()


def run(*cmd): subprocess.run([str(c) for c in cmd], check=True, capture_output=True)


def wav_bytes(x: np.ndarray, rate_hz: int) -> bytes:
    to = io.BytesIO()
    with wave.open(to, "wb") as w:
        w.setnchannels(x.shape[1] if x.ndim > 1 else 1); w.setsampwidth(2); w.setframerate(rate_hz)
        w.writeframes(x.astype("<i2").tobytes())
    return to.getvalue()


def mp3_bytes(x: np.ndarray, rate_hz: int, tmp: Path, *options) -> bytes:
    "LAME's MP3, written to a file so that it gets its Xing or Info header."
    (tmp / "in.wav").write_bytes(wav_bytes(x, rate_hz))
    run("lame", "--quiet", *options, tmp / "in.wav", tmp / "out.mp3")
    mp3 = (tmp / "out.mp3").read_bytes()
    if not (b"Xing" in mp3[:48] or b"Info" in mp3[:48]): raise SystemExit("lame wrote no Xing or Info header")
    return mp3


HTML = """<!DOCTYPE html>
<html><head><title>503 Service Unavailable</title></head>
<body><h1>Service Unavailable</h1><p>The server is busy. Please try again later.</p></body></html>
"""


def seeded(clip: Clip) -> np.random.Generator: return np.random.default_rng(clip.number)


def silence(x: np.ndarray, rate_hz: int, seconds: float, clip: Clip) -> np.ndarray:
    "What a room sounds like when no one speaks: very faint noise."
    return seeded(clip).normal(0, 3, round(seconds * rate_hz))


def narrow(x: np.ndarray, rate_hz: int) -> np.ndarray:
    "The band of a telephone."
    low = soxr.resample(soxr.resample(x, rate_hz, 6800), 6800, rate_hz)
    return np.pad(low, (0, max(0, len(x) - len(low))))[:len(x)]


def with_fault(clip: Clip, x: np.ndarray, rate_hz: int) -> np.ndarray:
    "A clip's samples with the fault that is planted in it."
    x, loud = x.astype(np.float64), float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
    noise = seeded(clip).normal(0, 1, len(x))
    match clip.wart:
        case "noisy": x += noise * loud * 10 ** (-3 / 20)
        case "noise": x = noise * loud * 0.2
        case "hum": x = 3000 * np.sin(2 * np.pi * 50 * np.arange(len(x)) / rate_hz)
        case "overdriven": x *= 4 * 32767 / np.abs(x).max()
        case "offset": x = x * 0.5 + 0.05 * 32768
        case "phone": x = narrow(x, rate_hz)
        case "late": x = np.concatenate([silence(x, rate_hz, 3, clip), x])
        case "pause":
            half = len(x) // 2
            x = np.concatenate([x[:half], silence(x, rate_hz, 2, clip), x[half:]])
        case "faint": x *= 10 ** (-58 / 20) * 32768 / np.abs(x).max()
    return np.clip(np.round(x), -32768, 32767).astype(np.int16)


def audio(clip: Clip, tmp: Path) -> bytes | None:
    "What the tar holds for the clip; None for nothing."
    if clip.wart == "missing_audio": return None
    if clip.wart == "empty_audio": return b""
    if clip.wart == "undecodable": return HTML.encode()
    x, rate_hz = speech(clip, tmp)
    if clip.wart in FAULTS: x = with_fault(clip, x, rate_hz)
    if clip.wart == "wav":
        low = soxr.resample(x.astype(np.float32), rate_hz, 16000)
        return wav_bytes(np.clip(np.round(low), -32768, 32767), 16000)
    if clip.wart == "stereo":
        both = np.stack([x, x // 4], 1)
        return mp3_bytes(both, rate_hz, tmp, "-m", "j", "-b", 64, "--resample", 44.1)
    kbit, khz = MP3[clip.lang]
    mp3 = mp3_bytes(x * (clip.wart != "silent"), rate_hz, tmp, "-m", "m", "--abr", kbit, "--resample", khz)
    return mp3[:len(mp3) * 6 // 10] if clip.wart == "truncated" else mp3


def rows(clip: Clip) -> list[str]:
    "The clip's lines in the TSV: one, two for a repeated row, none for audio without a row."
    *_, age, gender = SPEAKERS[clip.speaker]
    hexed = lambda make, s: make(s.encode()).hexdigest()
    row = dict(client_id=hexed(hashlib.sha512, f"audio_ft_prep sample {clip.lang} {clip.speaker}"),
               path=clip.name + ".mp3" * (clip.wart != "no_suffix"), sentence_id=hexed(hashlib.sha256, clip.written),
               sentence="   " if clip.wart == "empty_sentence" else clip.written, up_votes=2 + clip.number % 3,
               down_votes=int(clip.number % 5 == 0), age=age, gender=gender, locale=clip.lang)
    line = "\t".join(str(row.get(c, "")) for c in COLUMNS) + "\n"
    return [line] * {"no_row": 0, "duplicate_row": 2}.get(clip.wart, 1)


def write_tar(to: Path, members: dict[str, bytes]):
    "A plain ustar archive: no times, owners or directories in it."
    to.parent.mkdir(parents=True)
    with tarfile.open(to, "w", format=tarfile.USTAR_FORMAT) as t:
        for name, data in members.items():
            m = tarfile.TarInfo(name)
            m.size = len(data)
            t.addfile(m, io.BytesIO(data))


def write_split(out: Path, lang: str, split: str, part: list[Clip], tmp: Path) -> str:
    "One tar and one TSV; returns the split's line of the README's table of counts."
    tsv = out / "transcript" / lang / f"{split}.tsv"
    tsv.parent.mkdir(parents=True, exist_ok=True)
    lines = [l for c in part for l in rows(c)]
    tsv.write_text("\t".join(COLUMNS) + "\n" + "".join(lines), encoding="utf-8", newline="\n")
    found = {f"{lang}_{split}_0/{c.name}.mp3": data for c in part if (data := audio(c, tmp)) is not None}
    write_tar(out / "audio" / lang / split / f"{lang}_{split}_0.tar", found)
    reported = [f"{c.written}\t{c.lang}\t{REPORTED}\n" for c in part if c.wart == "reported"]
    if reported:
        to = tsv.with_name("reported.tsv")
        to.write_text("sentence\tlocale\treason\n" + "".join(reported), encoding="utf-8", newline="\n")
    rejected = sum(1 for c in part if WARTS.get(c.wart, ("", "kept"))[1] != "kept" or c.wart in ("noise", "hum"))
    rows_in = len(lines) + sum(c.wart == "no_row" for c in part)
    return f"| {lang} | {split} | {len(lines)} | {len(found)} | {rows_in} | {rows_in - rejected} | {rejected} |"


def listed(clips: list[Clip], kinds: dict) -> list[str]:
    "Lines of the README for the clips that have something of a kind."
    return ["| " + " | ".join([c.lang, c.split, c.name, *kinds[c.wart]]) + " |" for c in clips if c.wart in kinds]


README = """# Sample corpus

{n} utterances in the layout of Common Voice's tar shards, Italian (`it`), English (`en`) and German (`de`), to try the
toolkit on and to test it with. **Everything is synthetic**: no person was recorded. The sentences were written for this
corpus and spoken by espeak-ng ({speakers} voices stand for as many speakers). MP3s are mono, 48 kHz and about 40 kbit/s,
the German ones 24 kHz and 32 kbit/s, from LAME and with its header. Columns are those of Common Voice 17. Licence:
CC0 1.0 (public domain).

It is too small and too artificial to train a model that is of use to anyone.

## Counts

`rows in` is the TSV's rows and the audio that no row names. All rows in are either kept or rejected.

| language | split | TSV rows | audio files | rows in | kept | rejected |
|---|---|---|---|---|---|---|
{counts}

## Warts

Clips that are not as they should be, put there on purpose, and what should become of each. All others of Italian and
English are clean, and no speaker is in two splits.

| language | split | clip | what is wrong | expected |
|---|---|---|---|---|
{warts}

## Planted faults

The German clips are for looking at data: most of them have one fault, which `prepare` finds and says. All but those
that are rejected are kept, since a finding is no verdict.

| language | split | clip | what is wrong | found |
|---|---|---|---|---|
{faults}

Made by `tools/make_sample.py`.
"""


@call_parse
def main(
    out: Path = OUT,  # Folder to write; a sample corpus that is there is replaced
):
    "Write the sample corpus: tars, TSVs, n_shards.json and a README that lists its warts."
    all_clips = clips()
    if out.exists() and any(out.iterdir()):
        if not (out / "n_shards.json").exists(): raise SystemExit(f"{out} is not empty and holds no sample corpus")
        shutil.rmtree(out)
    with tempfile.TemporaryDirectory() as tmp:
        counts = [write_split(out, lang, split, [c for c in all_clips if (c.lang, c.split) == (lang, split)], Path(tmp))
                  for lang, split in CORPUS]
    shards = {lang: {s: 1 for l, s in CORPUS if l == lang} for lang in FIRST_NUMBER}
    (out / "n_shards.json").write_text(json.dumps(shards, indent=2) + "\n", newline="\n")
    readme = README.format(n=len(all_clips), speakers=len({c.speaker for c in all_clips}), counts="\n".join(counts),
                           warts="\n".join(listed(all_clips, WARTS)), faults="\n".join(listed(all_clips, FAULTS)))
    (out / "README.md").write_text(readme, encoding="utf-8", newline="\n")
    print("\n".join(counts), f"{sum(p.stat().st_size for p in out.rglob('*') if p.is_file())} bytes", sep="\n")
