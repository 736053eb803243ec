"A model hears a prepared folder: the tables are the same whatever makes them, and after a stop it continues."
import json
import shutil

import pytest

from audio_ft_prep import PrepConfig, prepare
from audio_ft_prep.cli import run
from audio_ft_prep.heard import heard_sets, read_heard
from audio_ft_prep.listen import clip_places, listen
from audio_ft_prep.reading import PreparedFolder, verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "The sample corpus, prepared."
    at = tmp_path_factory.mktemp("listen") / "prepared"
    prepare(PrepConfig("sample", "it", "Italian", output_dir=str(at), num_workers=1, shard_rows=4), progress=False)
    return at


@pytest.fixture(scope="module")
def texts(folder, tmp_path_factory):
    "What a model that hears everything rightly but for two would write."
    places = clip_places(PreparedFolder.of(folder), ["train", "eval"])
    said = dict(zip(places["id"].to_pylist(), places["sentence"].to_pylist()))
    first, second, *_ = said
    said[first], said[second] = said[second], ""
    path = tmp_path_factory.mktemp("texts") / "texts.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    return path


def bytes_in(folder):
    "Every file of what was heard, but for the addresses that differ."
    at = heard_sets(folder)[0].at
    return {p.name: p.read_bytes() for p in sorted(at.iterdir())}


@pytest.fixture(scope="module")
def heard(folder, texts):
    listen(folder, str(texts), num_workers=1, show_progress=False)
    return bytes_in(folder)


def test_each_clip_is_heard_once_and_the_folder_stays_what_it_was(folder, heard):
    table = read_heard(folder)
    prep = PreparedFolder.of(folder).prep
    assert len(table) == sum(c["kept"] for c in prep["counts"].values()) == len(set(table["id"].to_pylist()))
    assert verify(folder) == [] and len(heard) == len(prep["shards"]) + 1


def test_findings_name_the_swapped_and_the_empty(folder, heard):
    by_id = {row["id"]: row for row in read_heard(folder).to_pylist()}
    found = {name: row["findings"] for name, row in by_id.items() if row["findings"]}
    assert sorted(map(tuple, found.values())) == [("nothing_heard",), ("other_sentence",)]
    swapped = next(row for row in by_id.values() if row["findings"] == ["other_sentence"])
    assert by_id[swapped["match_id"]]["sentence"] == swapped["text"]


def copied(folder, to):
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("heard"))
    return to


def test_a_listening_that_is_stopped_continues_and_gives_the_same_bytes(folder, heard, texts, tmp_path, monkeypatch):
    from audio_ft_prep import cliphearer
    own = copied(folder, tmp_path / "prepared")
    monkeypatch.setattr("audio_ft_prep.listen._put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt): listen(own, str(texts), num_workers=1, show_progress=False)
    monkeypatch.undo()
    assert heard_sets(own) == [] and verify(own) == []
    cliphearer._HEARD_LAST.clear()
    again = listen(own, str(texts), num_workers=1, show_progress=False)
    assert again.clips == 0 and bytes_in(own) == heard


@pytest.mark.long
def test_a_sample_is_heard_first_and_all_after_it(folder, texts, tmp_path):
    own = copied(folder, tmp_path / "prepared")
    assert listen(own, str(texts), max_clips=2, num_workers=1, show_progress=False).heard.clips == 2
    assert len(read_heard(own)) == 2


def test_what_was_heard_is_not_believed_unseen(folder, heard, tmp_path):
    own = tmp_path / "prepared"
    shutil.copytree(folder, own)
    at = heard_sets(own)[0].at
    table = next(at.glob("*.parquet"))
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="another SHA-256"): read_heard(own)
    about = json.loads((at / "heard.json").read_text())
    about["tables"][0]["file"] = "../../prep.json"
    (at / "heard.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="must list tables"): read_heard(own)


def test_the_command_listens_and_says_what_it_found(folder, heard, texts, capsys):
    assert run(["listen", str(folder), "--model-id", str(texts), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == {"nothing_heard": 1, "other_sentence": 1}
    assert run(["listen", str(folder), "--model-id", str(folder / "nothing")]) == 2


@pytest.mark.long
@pytest.mark.parametrize("engine", ["two", "ray"])
def test_any_number_of_workers_and_ray_give_the_same_bytes(folder, heard, texts, tmp_path, engine):
    own = copied(folder, tmp_path / "prepared")
    listen(own, str(texts), engine="ray" if engine == "ray" else "local", num_workers=2, show_progress=False)
    assert bytes_in(own) == heard


@pytest.mark.long
def test_whisper_gives_the_same_fields_through_both_ways(tmp_path, monkeypatch):
    "A tiny one with random weights, converted once."
    import numpy as np
    from dataclasses import fields
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
    from audio_ft_prep.families import save_processor
    from audio_ft_prep.models import load_model
    from audio_ft_prep.netlisteners import NetTranscriber
    from audio_ft_prep.transcribers import transcriber_for
    monkeypatch.setenv("AUDIO_FT_PREP_CACHE", str(tmp_path / "cache"))
    at = tmp_path / "tiny"
    model = load_model("openai/whisper-tiny")
    config = WhisperConfig(
        vocab_size=51865, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64)
    net = WhisperForConditionalGeneration(config)
    net.generation_config.suppress_tokens, net.generation_config.begin_suppress_tokens = [1], [220, 50257]
    net.save_pretrained(at)
    save_processor(at, model, model.tokenizer)
    clips = [np.sin(np.arange(16000 * n) / 20).astype(np.float32) for n in (1, 2)]
    fast, slow = transcriber_for(str(at), "cpu"), NetTranscriber(at)
    for hearer in (fast, slow):
        found = hearer.transcribe(clips, "it")
        assert len(found) == 2 and all(isinstance(h.text, str) and h.logprob < 0 for h in found)
        assert all(0 <= h.no_speech <= 1 and h.seconds > 0 for h in found)
        assert {f.name for f in fields(found[0])} >= {"compression", "language_probability"}
    assert len(list((tmp_path / "cache" / "ct2").glob("*.lock"))) == 1


def test_refine_leaves_out_what_was_found_links_the_rest_and_accounts_for_all(folder, heard, tmp_path):
    from audio_ft_prep.refine import refine
    own = tmp_path / "better"
    refined = refine(folder, own, drop="other_sentence,nothing_heard", splits="train,eval")
    before, after = PreparedFolder.of(folder), PreparedFolder.of(own)
    assert verify(own) == [] and sum(refined.dropped.values()) == 2
    kept = lambda prep: sum(c["kept"] for c in prep["counts"].values())
    assert kept(after.prep) == kept(before.prep) - 2 and after.prep["hash"] != before.prep["hash"]
    rejects = {r["id"]: r for r in after.read_rejects().to_pylist() if r["reason"] in refined.dropped}
    texts = {row["id"]: row["text"] for row in read_heard(folder).to_pylist()}
    assert len(rejects) == 2 and all(texts[name] in r["detail"] for name, r in rejects.items())
    by_hash = {s["sha256"]: before.at / s["file"] for s in before.prep["shards"]}
    same = [s for s in after.prep["shards"] if s["sha256"] in by_hash]
    assert same and all((after.at / s["file"]).samefile(by_hash[s["sha256"]]) for s in same)
    assert refine(folder, own, drop="other_sentence,nothing_heard", splits="train,eval").hash == refined.hash
    with pytest.raises(ValueError, match="by other settings"): refine(folder, own, drop="other_sentence")


def test_refine_that_is_stopped_continues(folder, heard, tmp_path, monkeypatch):
    from audio_ft_prep import refine as module
    whole = module.refine(folder, tmp_path / "whole", max_cer=0.1)
    made = []
    def once(*args):
        if made: raise KeyboardInterrupt
        made.append(args)
        return real(*args)
    real = module._make
    monkeypatch.setattr(module, "_make", once)
    with pytest.raises(KeyboardInterrupt): module.refine(folder, tmp_path / "own", max_cer=0.1)
    assert not (tmp_path / "own" / "prep.json").exists()
    monkeypatch.undo()
    assert module.refine(folder, tmp_path / "own", max_cer=0.1).hash == whole.hash
    assert (tmp_path / "own" / "prep.json").read_bytes() == (tmp_path / "whole" / "prep.json").read_bytes()
