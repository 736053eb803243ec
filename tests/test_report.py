"The page about a prepared folder: true, whole in one file, readable on every screen."
import hashlib
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from audio_ft_prep import PrepConfig, load_prepared, prepare
from audio_ft_prep.plots import clip_numbers, plot_speakers
from audio_ft_prep.cli import run
from audio_ft_prep.comparison import compare
from audio_ft_prep.config import config_from
from audio_ft_prep.report import clips_at_the_edges, report, report_html, statistics, write_report
from audio_ft_prep.show import show_hours
from audio_ft_prep.suspects import suspects
from conftest import SAMPLE, tar_clips, write_corpus
from layouts import tar_tree, utterances

pytestmark = pytest.mark.long

VOID = {"meta", "br", "hr", "img", "input", "link", "source"}


class Page(HTMLParser):
    "What a page holds, and whether its tags close."
    def __init__(self, text):
        super().__init__()
        self.open = []
        self.wrong = []
        self.tags = []
        self.ids = []
        self.asked = []
        self.feed(text)
        self.close()
    def handle_startendtag(self, tag, attrs): self._seen(tag, attrs)
    def handle_starttag(self, tag, attrs):
        self._seen(tag, attrs)
        if tag not in VOID: self.open.append(tag)
    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag: self.wrong.append(tag)
    def _seen(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [v for k, v in attrs if k == "id"]
        self.asked += [v for k, v in attrs if k in ("src", "href", "xlink:href") and not v.startswith(("data:", "#"))]


@pytest.fixture(scope="module")
def page(prepared): return report_html(prepared(), most_clips=2)


def test_the_page_is_whole(page):
    got = Page(page)
    assert got.wrong == [] and got.open == [] and got.asked == [] and len(got.ids) == len(set(got.ids))
    assert (
        not {"script", "link", "iframe"} & set(got.tags)
        and got.tags.count("audio") == 2
        and got.tags.count("svg") == 6 + 2
    )
    assert all(f"#{name}" in page for name in re.findall(r'url\(#([^)]+)\)', page)) and set(
        re.findall(r"(?:url\(|href=\")#([^)\"]+)", page)
    ) <= set(got.ids)


def test_the_page_is_the_same_each_time(page, prepared): assert report_html(prepared(), most_clips=2) == page


def test_the_report_is_the_same_whatever_workers_made_the_folder(page, prepared):
    many = prepared(num_workers=2, shard_rows=3)
    assert report_html(many, most_clips=2).split("<h2>")[1:] == page.split("<h2>")[1:]
    one, other = report(prepared()).to_dict(), report(many).to_dict()
    assert one.pop("folder") != other.pop("folder") and one == other


FLAGGED = dict(flag_quiet=-16.0, flag_telephone=7500.0, flag_low_snr=45.0)


def test_each_section_says_what_was_counted(prepared):
    made = prepared(**FLAGGED)
    found, numbers = report(made).to_dict()["sections"], statistics(made).splits
    assert found["Numbers"]["train"]["clips"] == made.counts["train"]["kept"]
    assert found["Flags"]["flags"].keys() >= {"quiet", "telephone", "low_snr"}
    for flag, of_split in found["Flags"]["flags"].items():
        assert {split: count for split, count in of_split.items() if count["clips"]} == {
            split: s.flags[flag] for split, s in numbers.items() if s.flags[flag]["clips"]
        }
    assert sum(line["clips"] for line in found["Speakers"] if line["split"] == "eval") == numbers["eval"].clips
    assert all(s.flagged <= sum(count["clips"] for count in s.flags.values()) for s in numbers.values())
    assert found["Clips not kept"]["train"] == made.counts["train"]["rejects"]
    assert numbers["train"].measures.keys() == set(made.prep["measures"])


def test_the_worst_clip_of_each_flag_is_on_the_page_with_a_player(prepared):
    text = report_html(prepared(**FLAGGED), most_clips=12)
    got = Page(text)
    assert got.wrong == [] and got.tags.count("audio") == 12 and len(got.ids) == len(set(got.ids))
    headings = re.findall("<h3>(.*?)</h3>", text)
    flagged = [heading for heading in headings if heading.startswith("Flagged")]
    assert all(any(flag in heading for heading in flagged) for flag in ("quiet", "telephone", "low_snr"))
    assert sum(h == "Chosen at random" for h in headings) >= 2
    first = text[text.index("What to look at first"):text.index("<h2>Numbers")]
    assert "with the flag quiet" in first or "with the flag low_snr" in first


def test_two_folders_are_compared_and_every_lost_clip_has_a_reason(prepared):
    whole, part = prepared(), prepared(max_train_samples=15, min_seconds=2.5, **FLAGGED)
    found = compare(whole, part)
    data = found.to_dict()["sections"]
    assert data["What changed"] == {"same": False} and data["Settings"]["config.min_seconds"] == [0.0, 2.5]
    kept = {name: sum(c["kept"] for c in made.counts.values()) for name, made in (("a", whole), ("b", part))}
    lost = data["Clips lost"]
    assert lost["clips"] == kept["a"] - kept["b"] and data["Clips gained"]["clips"] == 0
    assert sum(lost["why"].values()) == lost["clips"] and lost["why"].keys() == {"not_sampled", "too_short"}
    back = compare(part, whole).to_dict()["sections"]
    assert back["Clips gained"] == lost and back["Clips lost"]["clips"] == 0
    assert data["Flags"]["train"]["quiet"][0] == 0 < data["Flags"]["train"]["quiet"][1]
    got = Page(found.html())
    assert got.wrong == [] and got.asked == [] and found.html() == compare(whole, part).html()


def test_sentences_that_were_written_otherwise_are_shown_side_by_side(prepared):
    found = compare(prepared(), prepared(lower_case=True)).to_dict()["sections"]
    clips = [s for split in load_prepared(prepared().folder).values() for s in split["sentence"]]
    assert found["Other sentences"]["clips"] == sum(s != s.lower() for s in clips) > 10
    assert found["Clips lost"]["clips"] == 0


def test_what_train_shares_with_eval_is_said_first(tmp_path):
    good = [data for name, data in sorted(tar_clips(SAMPLE, "it", "train").items()) if name[-2:] in ("01", "02", "03")]
    clips = lambda split: [(f"{split}_{i}", data, f"la frase {split} {i}") for i, data in enumerate(good)]
    root = write_corpus(tmp_path / "corpus", {split: clips(split) for split in ("train", "test")})
    cfg = PrepConfig(str(root), "it", train_splits="train", output_dir=str(tmp_path / "out"), num_workers=1)
    found = report(prepare(cfg, progress=False))
    leaks = found.to_dict()["sections"]["Leaks"]["eval"]
    assert {kind: leaks[kind]["rows"] for kind in ("speakers", "sentences", "audio")} == {
        "speakers": 3, "sentences": 0, "audio": 3,
    }
    assert any(words.startswith("3 rows of train with the same speaker as eval") for words in found.sections[0].words)


@pytest.fixture(scope="module")
def older(prepared, tmp_path_factory):
    "A folder that says no more of itself than those of the first release do."
    folder = tmp_path_factory.mktemp("older") / "out"
    shutil.copytree(prepared().folder, folder)
    prep = json.loads((folder / "prep.json").read_text())
    for name in ("flags", "eval_of", "text", "leaks", "sampling", "repair"): prep.pop(name, None)
    del prep["files"]["clips.parquet"]
    (folder / "clips.parquet").unlink()
    (folder / "prep.json").write_text(json.dumps(prep))
    return folder


@pytest.mark.parametrize("split", ["", "nosuch", "train", "x" * 10_000])
def test_a_table_of_clips_of_other_splits_is_refused_in_a_sentence(prepared, tmp_path, split):
    folder = tmp_path / "out"
    shutil.copytree(prepared().folder, folder)
    clips = pq.read_table(folder / "clips.parquet")
    pq.write_table(clips.set_column(0, clips.schema.field(0), pa.array([split] * len(clips))), folder / "clips.parquet")
    prep = json.loads((folder / "prep.json").read_text())
    prep["files"]["clips.parquet"] = hashlib.sha256((folder / "clips.parquet").read_bytes()).hexdigest()
    (folder / "prep.json").write_text(json.dumps(prep))
    with pytest.raises(ValueError, match="other numbers of clips than prep.json"): report(folder)


def test_a_folder_of_the_first_release_is_described_too(older, prepared):
    text = report_html(older, most_clips=1)
    assert Page(text).wrong == [] and "made before clips were flagged" in text and "What the test is over" not in text
    numbers = statistics(older)
    assert numbers.splits["train"].flagged is None and "clips with a flag" not in repr(numbers)
    found = compare(older, prepared()).to_dict()["sections"]
    assert found["Clips lost"]["clips"] == found["Clips gained"]["clips"] == 0 and found["Measures"]["train"]
    assert suspects(older).rejects == suspects(prepared()).rejects and suspects(older).flags == {}
    assert "as an older release made the folder" in repr(suspects(older, flag="digits"))


def test_a_folder_compared_with_itself_has_not_changed(prepared):
    found = compare(prepared(), prepared()).to_dict()["sections"]
    assert found["What changed"] == {"same": True} and found["Settings"] == {}
    assert found["Clips lost"]["clips"] == found["Clips gained"]["clips"] == 0


def test_the_command_describes_one_folder_and_compares_two(prepared, tmp_path, capsys):
    one, two = str(prepared().folder), str(prepared(max_train_samples=15, min_seconds=2.5, **FLAGGED).folder)
    assert run(["report", one]) == 0 and "WHAT TO LOOK AT FIRST" in capsys.readouterr().out
    page = tmp_path / "two.html"
    assert run(["report", one, two, "--html", str(page), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["html"] == str(page) and "Clips lost" in found["sections"] and Page(page.read_text()).wrong == []
    assert run(["report", one, "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "make it first" in capsys.readouterr().err


def test_every_reject_stands_on_the_page_with_what_was_measured(page, prepared):
    import pyarrow.parquet as pq
    from html import escape
    for r in pq.read_table(prepared().folder / "rejects.parquet").to_pylist():
        assert all(escape(r[k]) in page for k in ("id", "reason", "detail"))


def test_statistics_add_up(prepared):
    got, made = statistics(prepared()), prepared()
    for split, s in got.splits.items():
        c = made.counts[split]
        assert (s.clips, s.rejects) == (c["kept"], c["rejects"]) and s.seconds == pytest.approx(
            c["samples"] / 16000, abs=1e-3
        )
        assert list(s.duration.values()) == sorted(s.duration.values())
    assert (
        got.to_dict()["splits"]["train"]["speakers"] == 6
        and "speakers" in repr(got)
        and got._repr_markdown_().startswith("|  | train | eval |")
    )


def test_half_of_the_time_is_that_of_known_speakers_and_the_rest_is_said(tmp_path):
    root = tar_tree(tmp_path / "corpus", utterances())
    for path in (root / "transcript/it").glob("*.tsv"):
        head, first, *others = path.read_text(encoding="utf-8").splitlines(True)
        path.write_text(head + first + "".join("\t" + line.partition("\t")[2] for line in others), encoding="utf-8")
    made = prepare(PrepConfig(str(root), "it", output_dir=str(tmp_path / "out"), num_workers=1), progress=False)
    got, clips = statistics(made), clip_numbers(made)["train"]
    known = clips["seconds"][clips["speakers"] != ""].sum()
    assert (
        got.splits["train"].unnamed == pytest.approx(got.splits["train"].seconds - known, abs=2e-3)
        and 0 < known < got.splits["train"].unnamed
    )
    rows = {r[0]: r[1] for r in got.rows()}
    assert rows["speakers with half of their time"] == "1" and rows["duration without a speaker"] == show_hours(
        got.splits["train"].unnamed
    )
    assert (
        f"1 of 2 speakers makes half of train's {show_hours(known)} with a known speaker;"
        f" {show_hours(got.splits['train'].unnamed)} are without"
        in plot_speakers(made).says
    )


def test_the_edges_are_where_faults_gather(prepared):
    from audio_ft_prep.plots import clip_numbers
    from audio_ft_prep.views import PreparedClips
    clips, edges = PreparedClips(prepared()), clips_at_the_edges(prepared())
    shortest = next(at for at, words in edges.items() if "shortest of train" in words)
    assert (
        clip_numbers(clips)["train"]["seconds"].min() == clips(*shortest).seconds
        and "slowest speech of train" in edges[shortest]
    )


@pytest.mark.parametrize(
    "settings",
    [dict(train_splits="dev", eval_splits="", language_code="en"), dict(storage="audio", max_train_samples=2)],
    ids=str,
)
def test_a_folder_that_lacks_something_has_a_page_too(prepared, settings):
    text = report_html(prepared(**settings), most_clips=1)
    assert Page(text).wrong == [] and "There are no clips" not in text


def test_of_a_folder_without_any_clip_it_is_said_that_it_has_none(tmp_path):
    with pytest.raises(RuntimeError, match="nothing was kept"):
        prepare(
            PrepConfig("sample", "it", max_seconds=0.1, output_dir=str(tmp_path / "out"), num_workers=1),
            progress=False,
        )
    with pytest.raises(ValueError, match="holds no clip, every row was rejected"): report_html(tmp_path / "out")


def test_rows_beyond_a_maximum_make_no_empty_table(prepared):
    made = prepared(language_code="en", train_splits="dev", eval_splits="", max_train_samples=2)
    assert made.counts["train"]["rejects"].keys() == {"not_sampled"}
    text = report_html(made, most_clips=0)
    assert "Clip by clip" not in text and "not_sampled" in text and "<tbody></tbody>" not in text


def test_a_folder_at_a_url_has_the_same_page(prepared):
    assert report_html(f"local://{prepared().folder}", most_clips=1) == report_html(prepared(), most_clips=1)


def test_a_page_replaces_nothing_but_a_page(prepared, tmp_path):
    done = shutil.copytree(prepared().folder, tmp_path / "out")
    before = (done / "prep.json").read_bytes()
    for path in (done / "prep.json", done / "train", done / "clips.parquet"):
        with pytest.raises(ValueError, match="which is none: name another"): write_report(done, path, most_clips=0)
    assert (done / "prep.json").read_bytes() == before
    write_report(done, tmp_path / "report.html", most_clips=0)
    write_report(done, tmp_path / "report.html", most_clips=0)


def test_a_page_half_written_is_never_seen(prepared, tmp_path, monkeypatch):
    write_report(prepared(), tmp_path / "report.html", most_clips=0)
    before = (tmp_path / "report.html").read_text()
    def stop(*paths, **where): raise KeyboardInterrupt
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(os, "replace", stop)
        write_report(prepared(), tmp_path / "report.html", most_clips=1)
    assert (tmp_path / "report.html").read_text() == before
    with pytest.raises(FileNotFoundError, match="make it first"):
        write_report(prepared(), tmp_path / "none" / "report.html")


OUTSIDE = """() => {
  const wide = document.documentElement.clientWidth, scrolls = e => e.closest('.wide') !== null;
  return [...document.querySelectorAll('body *')].filter(e => !scrolls(e) && e.getBoundingClientRect().width && (e.getBoundingClientRect().right > wide + 1 || e.getBoundingClientRect().left < -1)).map(e => e.tagName);
}"""
CONTRAST = """() => {
  const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255).map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  const page = lum(getComputedStyle(document.body).backgroundColor), ratio = l => (Math.max(l, page) + .05) / (Math.min(l, page) + .05);
  const words = [...document.querySelectorAll('h1, h2, td, figcaption, .soft')].map(e => ratio(lum(getComputedStyle(e).color)));
  const drawn = [...document.querySelectorAll('svg text')].filter(e => e.getAttribute('style')?.includes('fill')).map(e => ratio(lum(getComputedStyle(e).fill)));
  return [Math.min(...words), Math.min(...drawn, 99)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("wide", [1280, 390])
def test_the_page_is_readable_on_every_screen(browser, shots, page, tmp_path, scheme, wide):
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    tab, errors = browser.new_page(viewport={"width": wide, "height": 900}, color_scheme=scheme), []
    tab.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    tab.goto((tmp_path / "report.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= wide and tab.evaluate(OUTSIDE) == [] and errors == []
    words, drawn = tab.evaluate(CONTRAST)
    assert words > 4.5 and drawn > 4.5
    tab.screenshot(path=shots / f"report-{scheme}-{wide}.png", full_page=True)
    tab.close()


HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202egnp\x07"
def test_text_of_a_corpus_is_shown_on_the_page_and_does_nothing(tmp_path):
    import numpy as np, soundfile as sf
    (tmp_path / "corpus").mkdir()
    names, noise = ["<b>one", "two"], np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype("float32")
    noise *= np.arange(len(noise)) % 8_000 < 4_000
    for name in names: sf.write(tmp_path / "corpus" / f"{name}.wav", noise, 16_000)
    lines = [
        json.dumps({"audio_filepath": f"{name}.wav", "text": f"la frase {HOSTILE}", "speaker": HOSTILE})
        for name in names
    ]
    (tmp_path / "corpus" / "train.json").write_text("\n".join(lines) + "\n")
    made = prepare(
        PrepConfig(
            str(tmp_path / "corpus"),
            "it",
            train_splits="train",
            eval_splits="",
            output_dir=str(tmp_path / "out"),
            num_workers=1,
        ),
        progress=False,
    )
    fewer = replace(config_from(made.prep["config"]), max_train_samples=1, output_dir=str(tmp_path / "fewer"))
    change = compare(made, prepare(fewer, progress=False))
    text = report_html(made)
    got = Page(text)
    shown = [show(what) for what in (report(made), change) for show in (repr, type(what)._repr_markdown_)]
    assert all("gnp" in words and not set(words) & set("\x1b\u202e\x07\r") for words in (*shown, change.html()))
    assert all("\\<img src=x" in words for words in shown[1::2]) and "img" not in Page(change.html()).tags
    assert got.wrong == [] and "img" not in got.tags and "<b>one" not in text and not set(text) & set("\x1b\u202e\x07")
    assert "&lt;img src=x" in text and '<audio controls aria-label="sound of &lt;b&gt;one"' in text
