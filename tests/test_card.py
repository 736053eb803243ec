"The data card and the Croissant metadata of a prepared folder: valid, true, the same for the same run."
import json
import logging
import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.card import card_header, column_words, croissant, data_card, source_name
from audio_ft_prep.load import load_rows
from audio_ft_prep.run import Part
from audio_ft_prep.pipeline import merge
from audio_ft_prep.reading import read_prep, verify
from audio_ft_prep.flags import FLAGS
from audio_ft_prep.rejects import REASONS
from audio_ft_prep.disk import file_sha256
from conftest import SAMPLE
from layouts import tar_tree, utterances

STORAGES = ["features", "audio", "source", "padded"]


def card_of(folder):
    "Header and text of a folder's data card."
    _, header, text = (Path(folder) / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def croissant_of(folder): return json.loads((Path(folder) / "croissant.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("storage", STORAGES)
def test_croissant_metadata_is_valid(prepared, storage, caplog):
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    with caplog.at_level(logging.WARNING):
        metadata = mlc.Dataset(jsonld=prepared(storage=storage).folder / "croissant.json").metadata
    said = [m for r in caplog.records for m in r.message.splitlines() if "Property" in m]
    # what nobody can know of a folder that has not been published
    assert not metadata.issues.errors and {m.split('"')[1].rpartition("/")[2] for m in said} <= {
        "citeAs",
        "datePublished",
        "url",
    }
    assert metadata.name == "sample (it) for whisper-small" and [r.name for r in metadata.record_sets] == [
        "examples",
        "rejects",
        "clips",
    ]


def test_a_fault_in_the_metadata_would_be_seen(prepared, tmp_path):
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    broken = croissant_of(prepared().folder)
    broken["recordSet"][0]["field"][0]["source"] = {"fileSet": {"@id": "nowhere"}, "extract": {"column": "id"}}
    with pytest.raises(mlc.ValidationError): mlc.Dataset(jsonld=broken)


def test_rejects_are_read_through_croissant(prepared):
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    folder = prepared().folder
    read = [
        {k.rpartition("/")[2]: v.decode() for k, v in r.items()}
        for r in mlc.Dataset(jsonld=folder / "croissant.json").records("rejects")
    ]
    assert read == pq.read_table(folder / "rejects.parquet").to_pylist() and len(read) == 8


def test_clips_are_read_through_croissant(prepared):
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    folder = prepared().folder
    clips = pq.read_table(folder / "clips.parquet")
    fields = next(r for r in croissant_of(folder)["recordSet"] if r["@id"] == "clips")["field"]
    assert [f["name"] for f in fields] == clips.schema.names
    read = [*mlc.Dataset(jsonld=folder / "croissant.json").records("clips")]
    assert [r["clips/id"].decode() for r in read] == clips["id"].to_pylist() and len(read) == 24
    assert [pytest.approx(r["clips/level_db"]) for r in read] == clips["level_db"].to_pylist()


def test_the_card_counts_flags_by_split_with_their_thresholds(prepared):
    made = prepared()
    _, text = card_of(made.folder)
    flags = made.prep["flags"]
    assert flags["train"] and set(flags) == {"train", "eval"}
    for name in flags["train"].keys() | flags["eval"].keys():
        assert f"| {name} | {FLAGS[name].words} | " in text.split("## Flags")[1].split("## ")[0]
        assert f"flagged: {name}" in repr(made)


def test_the_name_of_a_corpus_is_shown_as_it_is(tmp_path):
    name = "a*b* <i>_c_ `d`"
    root = tar_tree(tmp_path / name, utterances())
    made = prepare(PrepConfig(str(root), "it", output_dir=str(tmp_path / "out"), num_workers=1), progress=False)
    header, text = card_of(made.folder)
    assert (
        header["pretty_name"].startswith(f"{name} (it)")
        and croissant_of(made.folder)["name"] == header["pretty_name"]
    )
    shown = r"a\*b\* \<i\>\_c\_ \`d\`"
    assert (
        text.startswith(f"\n# {shown} (it) for whisper-small\n")
        and f"\n{shown}, read as commonvoice" in text
        and f"| dataset_name | `` {name} `` |" in text
    )
    assert "`` x`y ``" in PrepConfig("x`y", "it")._repr_markdown_()


@pytest.mark.parametrize("storage", STORAGES)
def test_every_file_is_described_by_its_hash(prepared, storage):
    folder = prepared(storage=storage).folder
    told = {f["contentUrl"]: f for f in croissant_of(folder)["distribution"] if f["@type"] == "cr:FileObject"}
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert told.keys() == there - {"README.md", "croissant.json", "prep.json"}
    assert all(f["sha256"] == file_sha256(folder / n) for n, f in told.items())
    assert all(f["contentSize"] == f"{(folder / n).stat().st_size} B" for n, f in told.items() if n.endswith(".arrow"))


@pytest.mark.parametrize("storage", STORAGES)
def test_the_described_columns_are_those_of_the_files(prepared, storage):
    from datasets import DatasetDict
    made = prepared(storage=storage)
    names = DatasetDict.load_from_disk(str(made.folder))["train"].column_names
    fields = {f["name"]: f for f in croissant_of(made.folder)["recordSet"][0]["field"]}
    assert list(fields) == ["split", *names] and list(column_words(made.prep)) == names
    _, text = card_of(made.folder)
    assert [
        l.split("`")[1] for l in text.split("## Columns")[1].split("## ")[0].splitlines() if l.startswith("| `")
    ] == names
    assert (fields["labels"]["isArray"], fields["labels"]["arrayShape"], fields["labels"]["dataType"]) == (
        True,
        "-1",
        "cr:Int64",
    )
    kinds = "Whisper, wav2vec2, w2v-BERT" if storage in ("audio", "source") else "Whisper."
    assert f"so it trains models of these kinds: {kinds}" in text
    if storage == "features":
        assert (fields["input_features"]["arrayShape"], fields["input_features"]["dataType"]) == ("80,-1", "cr:Float16")


def test_the_glob_of_shards_finds_all_of_them(prepared):
    made = prepared(shard_rows=8)
    globs = next(f["includes"] for f in croissant_of(made.folder)["distribution"] if f["@type"] == "cr:FileSet")
    assert {p.relative_to(made.folder).as_posix() for g in globs for p in made.folder.glob(g)} == {
        s["file"] for s in made.prep["shards"]
    }


def test_the_card_tells_the_counts_and_every_reason(prepared):
    made = prepared()
    header, text = card_of(made.folder)
    counts = made.prep["counts"]
    for split, c in counts.items():
        assert f"| {split} | {c['rows']} | {c['kept']} | {sum(c['rejects'].values())} |" in text
    for reason in Counter(counts["train"]["rejects"]) + Counter(counts["eval"]["rejects"]):
        assert f"| {reason} | {REASONS[reason].text} |" in text
    assert made.prep["hash"] in text and made.prep["versions"]["torch"] in text
    assert (header["language"], header["license"], header["size_categories"]) == (["it"], "cc0-1.0", ["n<1K"])


def test_the_licence_is_that_of_the_packages_own_sample_and_of_no_folder_of_that_name(tmp_path, monkeypatch):
    tar_tree(tmp_path / "sample", utterances())
    monkeypatch.chdir(tmp_path)
    prep = prepare(PrepConfig("sample", "it", output_dir="out", num_workers=1), progress=False).prep
    assert (
        card_header(prep)["license"] == "unknown"
        and "Its licence is not on record" in data_card(prep)
        and "license" not in croissant(prep)
    )
    assert "licence" not in load_rows(PrepConfig("sample", "it")).source
    monkeypatch.chdir(SAMPLE)
    assert (
        load_rows(PrepConfig("sample", "it")).source["licence"]
        == load_rows(PrepConfig(str(SAMPLE), "it")).source["licence"]
        == "cc0-1.0"
    )


@pytest.mark.parametrize("name", ["../secret/acme/cv", "secret/cv", "/srv/secret/cv", "~/secret/cv"])
def test_a_place_on_this_machine_is_nobodys_business(prepared, name):
    prep = {
        **prepared().prep,
        "config": {**prepared().prep["config"], "dataset_name": name, "model_id": name},
        "model": {**prepared().prep["model"], "origin": "the folder"},
    }
    assert source_name(prep) == "cv" and "secret" not in data_card(prep) + json.dumps(croissant(prep))
    there = {**prep, "source": {**prep["source"], "identity": "3f" * 20}}
    assert source_name({**there, "config": {**prep["config"], "dataset_name": "google/fleurs"}}) == "google/fleurs"
    assert source_name({**prep, "config": {**prep["config"], "dataset_name": "mdc:cv-it"}}) == "mdc:cv-it"


def test_splits_that_were_left_out_are_told(prepared):
    text = card_of(prepared(language_code="en", train_splits="dev", eval_splits="").folder)[1]
    assert "| eval_splits | none |" in text and "| train_splits | `dev` |" in text


def test_the_hubs_reader_understands_the_header(prepared, tmp_path):
    from datasets import load_dataset
    data = load_dataset(str(prepared().folder), cache_dir=str(tmp_path))
    assert data.num_rows == {s: c["kept"] for s, c in prepared().counts.items()}


def test_card_and_metadata_are_the_same_however_they_were_made(tmp_path):
    cfg = lambda name, **kw: PrepConfig("sample", "it", output_dir=str(tmp_path / name), shard_rows=8, **kw)
    prepare(cfg("one", num_workers=1), progress=False)
    prepare(cfg("two", num_workers=2), progress=False)
    for i in range(2): prepare(cfg(f"part{i}", num_workers=1), progress=False, part=Part(i, 2))
    merge([tmp_path / "part1", tmp_path / "part0"], tmp_path / "merged")
    for name in ("README.md", "croissant.json"):
        assert len({(tmp_path / d / name).read_bytes() for d in ("one", "two", "merged")}) == 1
    assert "part 2 of 2" in card_of(tmp_path / "part1")[1].splitlines()[1]


@pytest.mark.parametrize("name", ["README.md", "croissant.json"])
def test_a_changed_card_is_found(prepared, tmp_path, name):
    mine = shutil.copytree(prepared().folder, tmp_path / "mine")
    assert verify(mine) == [] and name in read_prep(mine)["files"]
    with open(mine / name, "a") as f: f.write("\n")
    assert verify(mine) == [f"{name} has another SHA-256 than when it was written"]


def test_a_folder_without_rejects_or_eval_has_a_card(prepared):
    made = prepared(language_code="en", train_splits="dev", eval_splits="")
    header, text = card_of(made.folder)
    assert (
        "Every clip was kept." in text
        and [f["split"] for f in header["configs"][0]["data_files"]] == ["train"]
        and header["language"] == ["en"]
    )


# Markup

PAYLOADS = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "</script><svg onload=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "`</code><b>`",
    "a|b|<i>c",
    "*bold* _it_ ~~x~~",
    "# head",
    "\n\n# head\n<b>x</b>",
    "\n---\n<b>x</b>",
    "&lt;b&gt; &#60;b&#62;",
    "$x$ $$<b>$$",
    "\x1b[2J\x07",
    "\u202egnp.exe",
    "'\"><iframe src=//evil.example>",
    "<!-- x",
    "]]><b>",
    "{{7*7}}",
    "x\r\n| a | b |\r\n",
    "- [ ] <b>",
    "\\<b\\>",
    "``` \n<b>x</b>\n```",
]


def shown(text):
    "The tags of what a Markdown reader makes of a text, that of the header included, and the text that it shows."
    from html.parser import HTMLParser
    from markdown_it import MarkdownIt
    tags, words = [], []
    class Page(HTMLParser):
        def handle_starttag(self, tag, attrs): tags.append((tag, *sorted(a for a, _ in attrs)))
        def handle_data(self, data): words.append(data)
        def handle_comment(self, data): tags.append(("comment",))
    Page(convert_charrefs=True).feed(
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    )
    return tags, "".join(words)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_a_corpus_calls_things_is_shown_and_does_nothing(prepared, payload):
    pytest.importorskip("markdown_it")
    import yaml
    from audio_ft_prep.output import _for_pages
    from audio_ft_prep.shards import json_bytes
    prep = prepared().prep
    name = payload.replace("/", "")
    hostile = {
        **prep,
        "config": {**prep["config"], "dataset_name": name, "model_id": name, "text_column": payload},
        "model": {**prep["model"], "origin": "the folder"},
        "source": {
            **prep["source"],
            "kind": payload,
            "language": payload,
            "licence": payload,
            "revision": payload,
            "notes": [payload, payload],
        },
    }
    plain = {
        **hostile,
        "config": {**hostile["config"], "dataset_name": "x", "model_id": "x", "text_column": "x"},
        "source": {
            **hostile["source"],
            "kind": "x",
            "language": "x",
            "licence": "x",
            "revision": "x",
            "notes": ["x", "x"],
        },
    }
    card = data_card(hostile)
    assert shown(card)[0] == shown(data_card(plain))[0]
    header = card.split("---\n")[1]
    assert header == card[4 : card.index("\n---\n") + 1] and yaml.safe_load(header)["pretty_name"].startswith(
        name.replace("\r\n", "\r\n")
    )
    told = _for_pages(json_bytes(croissant(hostile))).decode()
    assert not set("<>&") & set(told) and json.loads(told) == croissant(hostile)
    assert "\x1b" not in card and "\u202e" not in card
