"""Write the Whisper vocabularies that ship with the package, from openai-whisper's source archive.

    pip download --no-deps --no-build-isolation openai-whisper==20250625
    python tools/make_vocab.py openai_whisper-20250625.tar.gz

Each vocabulary becomes one gzipped text file of BPE merges in rank order, `left right` a line, in the byte-level
alphabet (every byte is one printable character). The merges are all that is needed: 256 single bytes, then one new
token a line, and for `multilingual` the empty token last. The tool rebuilds both vocabularies from what it wrote and
fails if a single rank differs. `languages.txt` has a language a line, in the order of the tokens: its code, then its names.
"""
from __future__ import annotations

import ast, base64, gzip, io, json, tarfile
from pathlib import Path

from fastcore.script import call_parse

OUT = Path(__file__).resolve().parents[1] / "audio_ft_prep/data/whisper"
# name here: (name in the archive, does the empty token close it)
VOCABULARIES = {"multilingual": ("multilingual.tiktoken", True), "english": ("gpt2.tiktoken", False)}
COVERS = (
    "This notice covers multilingual.txt.gz, english.txt.gz, languages.txt and spellings.txt.gz in this folder: the vocabularies of "
    "openai-whisper 20250625, rewritten as BPE merges, and its languages.\n\n"
)


def byte_alphabet() -> list[str]:
    "One printable character for each byte: itself where Latin-1 has one, else the next from U+0100 on."
    own = [chr(b) if chr(b).isprintable() and b not in (32, 160) else None for b in range(256)]
    spare = map(chr, range(256, 512))
    return [c or next(spare) for c in own]


ALPHABET = byte_alphabet()
BYTES = sorted(ALPHABET)     # the order of the first 256 ranks: as the characters sort


def spell(token: bytes) -> str: return "".join(ALPHABET[b] for b in token)


def read_ranks(raw: bytes) -> list[str]:
    "The tokens of a rank file in order, spelt in the byte-level alphabet; its ranks must run from 0 without a gap."
    lines = [l.split() for l in raw.splitlines() if l.strip()]
    if [int(r) for _, r in lines] != [*range(len(lines))]: raise SystemExit("The ranks do not run 0, 1, 2, ...")
    return [spell(base64.b64decode(t)) for t, _ in lines]


def last_pair(token: str, rank: dict[str, int]) -> tuple[str, str]:
    "The two parts that make `token` when only pairs of a lower rank have been merged before."
    parts, top = [*token], rank[token]
    while len(parts) > 2:
        best, i = min((rank.get(a + b, top), i) for i, (a, b) in enumerate(zip(parts, parts[1:])))
        if best >= top: raise SystemExit(f"No merges of a lower rank lead to token {top}")
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts[0], parts[1]


def merges_of(tokens: list[str]) -> list[tuple[str, str]]:
    rank = {t: i for i, t in enumerate(tokens)}
    return [last_pair(t, rank) for t in tokens if len(t) > 1]


def rebuild(text: str, empty_last: bool) -> list[str]:
    "The tokens in rank order, from a merges file alone: what a reader of these files does."
    return BYTES + ["".join(line.split(" ")) for line in text.splitlines()] + [""] * empty_last


def pack(text: str) -> bytes:
    "Gzip without a name or a time, so that the same text is the same file."
    to = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, to, mtime=0) as f: f.write(text.encode())
    return to.getvalue()


def archive_file(src: Path, name: str) -> bytes:
    with tarfile.open(src) as t:
        found = [m for m in t if m.isfile() and m.name.endswith("/" + name)]
        if len(found) != 1: raise SystemExit(f"Expected one {name} in {src}, found {len(found)}")
        return t.extractfile(found[0]).read()


def write_one(src: Path, out: Path, name: str, asset: str, empty_last: bool):
    tokens = read_ranks(archive_file(src, "whisper/assets/" + asset))
    merges = merges_of(tokens)
    path, data = out / f"{name}.txt.gz", pack("".join(f"{a} {b}\n" for a, b in merges))
    if rebuild(gzip.decompress(data).decode(), empty_last) != tokens:
        raise SystemExit(f"The merges do not give back the ranks of {asset}")
    path.write_bytes(data)
    print(f"{path.name}: {len(merges)} merges, {len(tokens)} base ranks, {path.stat().st_size} bytes")


def assigned(source: str, name: str) -> ast.expr:
    "What a module's source assigns to a name."
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == name for t in node.targets): return node.value
    raise SystemExit(f"No {name} in the archive's tokenizer.py")


def write_languages(src: Path, out: Path):
    source = archive_file(src, "whisper/tokenizer.py").decode()
    names = {code: [name] for code, name in ast.literal_eval(assigned(source, "LANGUAGES")).items()}
    aliases = assigned(source, "TO_LANGUAGE_CODE")       # {**those by name, "burmese": "my", ...}
    for key, value in zip(aliases.keys, aliases.values):
        if isinstance(key, ast.Constant): names[value.value].append(key.value)
    (out / "languages.txt").write_text(
        "".join(f"{code} {','.join(known)}\n" for code, known in names.items()), encoding="utf-8", newline="\n"
    )
    print(f"languages.txt: {len(names)} languages")


def write_spellings(src: Path, out: Path):
    spellings = json.loads(archive_file(src, "whisper/normalizers/english.json"))
    lines = "".join(f"{british}\t{american}\n" for british, american in sorted(spellings.items()))
    (out / "spellings.txt.gz").write_bytes(pack(lines))
    print(f"spellings.txt.gz: {len(spellings)} spellings")


@call_parse
def main(
    sdist: Path,  # The source archive, openai_whisper-20250625.tar.gz
    out: Path = OUT,  # Folder to write into
):
    "Write the vocabularies, languages.txt, spellings.txt.gz and LICENSE, and check that they give back the vocabularies exactly."
    out.mkdir(parents=True, exist_ok=True)
    for name, (asset, empty_last) in VOCABULARIES.items(): write_one(sdist, out, name, asset, empty_last)
    write_languages(sdist, out)
    write_spellings(sdist, out)
    notice = archive_file(sdist, "LICENSE").decode()
    if not notice.startswith("MIT License"): raise SystemExit("The archive's LICENSE is not the MIT notice")
    (out / "LICENSE").write_text(COVERS + notice, encoding="utf-8", newline="\n")
