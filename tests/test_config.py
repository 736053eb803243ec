"A config is checked when it is made, says in one sentence what is wrong, and comes back from a file as it was."
import html
import json
import re
from dataclasses import asdict, dataclass, fields, replace

import pytest
import yaml
from hypothesis import example, given, settings, strategies as st

from audio_ft_prep.config import GROUPS, RULES, Rule, outside_names, setting
from audio_ft_prep.config import (
    NOT_SHAPING, PrepConfig, config_from, differing, field_types, fingerprint, shaping, split_name, split_names)
from audio_ft_prep.configfile import load_config, read_settings, save_config, to_json, to_yaml
from audio_ft_prep.rows import Row
from audio_ft_prep.show import (
    as_it_is, code_cell, html_text, json_text, markdown_table, table_cell, text_table, visible, visible_lines)

pytestmark = pytest.mark.light

words = st.text(min_size=1, max_size=40).filter(str.strip)
codes = st.from_regex(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,2}", fullmatch=True)
counts = st.none() | st.integers(1, 10**9)
sums = st.sampled_from(
    [
        ("train+validation", "test"),
        ("train", "dev"),
        ("", "test"),
        ("other + train", ""),
        ("TRAIN+val", "test+invalidated"),
    ]
)


@st.composite
def configs(draw):
    "Any config that is valid."
    low, high = sorted(draw(st.lists(st.floats(0, 30), min_size=2, max_size=2, unique=True)))
    train, evaluation = draw(sums)
    return PrepConfig(
        draw(words),
        draw(codes),
        language=draw(st.text(max_size=20)),
        model_id=draw(words),
        output_dir=draw(words),
        task=draw(st.sampled_from(["transcribe", "translate"])),
        train_splits=train,
        eval_splits=evaluation,
        max_train_samples=draw(counts),
        max_eval_samples=draw(counts),
        keep_out=draw(st.sampled_from(["", "cv", "cv:test\nmdc:abc"])),
        leak_sentences=draw(st.sampled_from(["report", "drop", "fail"])),
        **draw(st.sampled_from([{}, {"near": True}, {"near": True, "leak_near": "fail"}])),
        sampling=draw(st.sampled_from(["first", "random"])),
        seed=draw(st.integers(0, 2**64)),
        max_train_hours=draw(st.none() | st.floats(1e-6, 1e6)),
        max_eval_share=draw(st.none() | st.floats(1e-6, 1)),
        max_per_speaker=draw(counts),
        min_up_votes=draw(counts),
        order=draw(st.sampled_from(["corpus", "longest"])),
        min_seconds=low,
        max_seconds=high,
        reject=draw(st.sampled_from(["", "low_snr", " telephone, digits "])),
        flag_gap=draw(st.none() | st.floats(0, 60)),
        flag_quiet=draw(st.floats(-100, 0)),
        flag_script=draw(st.none() | st.floats(0, 1)),
        dataset_config=draw(st.text(max_size=9)),
        dataset_revision=draw(st.text(max_size=9)),
        audio_column=draw(st.text(max_size=9)),
        text_column=draw(st.text(max_size=9)),
        language_column=draw(st.text(max_size=9)),
        timestamps=draw(st.floats(0, 1)),
        previous=draw(st.floats(0, 1)),
        no_speech=draw(st.floats(0, 1)),
        lower_case=draw(st.booleans()),
        clean=draw(st.sampled_from(["", "apostrophes", " quotes, dashes "])),
        **draw(
            st.sampled_from(
                [
                    dict(storage=s, log_mel=m)
                    for s in ("features", "audio", "source", "padded")
                    for m in ("exact", "fast")
                    if s not in ("audio", "source") or m == "exact"
                ]
            )
        ),
        feature_dtype=draw(st.sampled_from(["float16", "float32"])),
        shard_rows=draw(st.integers(0, 10**6)),
        num_workers=draw(st.integers(0, 512))
    )


CFG = PrepConfig("cv-corpus", "it")
# Another valid value of every field
OTHER = dict(
    dataset_name="elsewhere",
    language_code="es",
    language="Spanish",
    model_id="openai/whisper-large-v3",
    output_dir="there",
    task="translate",
    ctc_vocabulary="corpus",
    ctc_least_count=3,
    train_splits="train",
    eval_splits="other",
    splits="repair",
    keep_eval=True,
    max_train_samples=5,
    max_eval_samples=5,
    keep_out="cv:test\nfleurs",
    leak_speakers="drop",
    leak_sentences="fail",
    leak_audio="drop",
    near=True,
    sampling="random",
    seed=7,
    max_train_hours=2.5,
    max_eval_hours=1.0,
    max_train_share=0.5,
    max_eval_share=0.1,
    max_per_speaker=100,
    max_per_sentence=2,
    min_up_votes=3,
    max_down_votes=0,
    min_score=0.6,
    order="longest",
    reject="low_snr",
    flag_low_snr=20.0,
    flag_quiet=-50.0,
    flag_clipped=0.001,
    flag_dc=0.01,
    flag_telephone=3400.0,
    flag_edges=3.0,
    flag_gap=None,
    flag_rate=5.0,
    flag_script=0.5,
    min_seconds=1.0,
    max_seconds=20.0,
    dataset_config="clean",
    dataset_revision="v2",
    audio_column="clip",
    text_column="said",
    language_column="tongue",
    windows="captions",
    timestamps=0.25,
    previous=0.0,
    no_speech=0.1,
    lower_case=True,
    clean="apostrophes",
    storage="padded",
    feature_dtype="float32",
    log_mel="fast",
    shard_rows=100,
    num_workers=3,
)


# ---- files

@settings(deadline=None, max_examples=60)
@given(cfg=configs(), ending=st.sampled_from([".json", ".yaml", ".yml"]))
@example(cfg=PrepConfig("no", "no", language="no", model_id="null", output_dir="1e3"), ending=".yaml")
@example(cfg=PrepConfig("a\x85b", "it"), ending=".yaml")
@example(
    cfg=PrepConfig("a\x85b\u2028c\r\n d", "it", language=" lead", model_id="x: y # z", output_dir="'\"\\\t"),
    ending=".yaml",
)
def test_any_valid_config_comes_back_from_a_file_as_it_was(cfg, ending, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"run{ending}"
    save_config(cfg, path)
    assert load_config(path) == config_from(asdict(cfg)) == cfg
    assert fingerprint(load_config(path)) == fingerprint(cfg)


@settings(deadline=None, max_examples=60)
@given(cfg=configs())
def test_json_and_yaml_hold_the_same(cfg):
    assert json.loads(to_json(cfg)) == yaml.safe_load(to_yaml(cfg)) == asdict(cfg)


def test_a_file_may_give_only_some_fields_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfdataset_name: cv\r\nlanguage_code: it\r\nmax_seconds: 20\r\n")
    assert load_config(path) == PrepConfig("cv", "it", max_seconds=20.0)
    assert read_settings(path) == {"dataset_name": "cv", "language_code": "it", "max_seconds": 20}


def test_yaml_no_is_refused_with_the_advice_to_quote_it(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("dataset_name: cv\nlanguage_code: no\n")
    with pytest.raises(TypeError, match=r"^language_code must be text \(in YAML, in quotes\), got False$"):
        load_config(path)
    path.write_text("dataset_name: cv\nlanguage_code: 'no'\n")
    assert load_config(path).language_code == "no"


@pytest.mark.parametrize(
    "name,text",
    [
        ("run.json", "{"),
        ("run.json", "dataset_name: cv"),
        ("run.json", "[1, 2]"),
        ("run.json", "null"),
        ("run.json", ""),
        ("run.yaml", "a: [1"),
        ("run.yaml", "- cv\n- it"),
        ("run.yaml", ""),
        ("run.yaml", "cv"),
        ("run.yaml", "a: !!python/name:os.system"),
        ("run.yaml", "a: 1\n---\nb: 2"),
        ("run.yaml", "a: \x00"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused_by_name(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError) as e: load_config(path)
    assert str(path) in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["run.json", "run.yaml"])
def test_a_file_that_is_no_utf8_is_refused_by_name(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(to_json(CFG).encode("utf-16"))
    with pytest.raises(ValueError) as e: load_config(path)
    assert str(path) in str(e.value) and "\n" not in str(e.value)


def test_a_missing_file_or_an_unknown_ending_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config file .*gone.yaml"): load_config(tmp_path / "gone.yaml")
    (tmp_path / "run.toml").write_text("")
    with pytest.raises(ValueError, match=r"ends in \.json, \.yaml or \.yml, got run\.toml"):
        load_config(tmp_path / "run.toml")
    with pytest.raises(ValueError, match=r"ends in \.json, \.yaml or \.yml, got run\.toml"):
        save_config(CFG, tmp_path / "run.toml")


@pytest.mark.parametrize("given_", [None, [], "cv", 3])
def test_a_config_from_something_else_than_a_mapping_is_a_type_error(given_):
    with pytest.raises(TypeError, match="a mapping of fields to values"): config_from(given_)


# ---- keys

def typos(name):
    "A letter lost, a letter doubled, two letters swapped, hyphens for underscores."
    for i in range(len(name)):
        yield name[:i] + name[i + 1:]
        yield name[:i] + name[i] + name[i:]
        yield name[:i] + name[i + 1:i + 2] + name[i] + name[i + 2:]
    yield name.replace("_", "-")
    yield name.replace("_", "")


@pytest.mark.parametrize("field", field_types())
def test_a_misspelt_key_names_the_field_that_was_meant(field):
    for key in {*typos(field)} - {*field_types()}:
        with pytest.raises(ValueError) as e: config_from({"dataset_name": "cv", "language_code": "it", key: 1})
        assert str(e.value) == f"{key!r} is no field of PrepConfig: did you mean {field}?"


@pytest.mark.parametrize("key", ["zzz", "", 1, None, False, 3.5])
def test_a_key_near_to_none_is_told_all_fields(key):
    with pytest.raises(ValueError) as e: config_from({"dataset_name": "cv", "language_code": "it", key: 1})
    assert repr(key) in str(e.value) and all(f in str(e.value) for f in field_types())


@pytest.mark.parametrize("field", ["dataset_name", "language_code"])
def test_a_missing_field_without_default_is_named(field):
    left = {"dataset_name": "cv", "language_code": "it"}
    del left[field]
    with pytest.raises(ValueError, match=f"^{field} is missing"): config_from(left)


# ---- rules

BAD = [
    ("dataset_name", ""),
    ("dataset_name", " \t"),
    ("dataset_name", None),
    ("dataset_name", 3),
    ("language_code", ""),
    ("language_code", "i"),
    ("language_code", "../it"),
    ("language_code", "it\n"),
    ("language_code", "it-"),
    ("language_code", "italian"),
    ("language_code", "it it"),
    ("language_code", None),
    ("language_code", False),
    ("language", None),
    ("language", False),
    ("language", 3),
    ("model_id", ""),
    ("model_id", "  "),
    ("model_id", None),
    ("output_dir", ""),
    ("output_dir", "\n"),
    ("output_dir", None),
    ("task", "Transcribe"),
    ("task", None),
    ("task", ["transcribe"]),
    ("task", True),
    ("train_splits", None),
    ("train_splits", ["train"]),
    ("train_splits", "train++other"),
    ("train_splits", "+"),
    ("train_splits", "train+"),
    ("train_splits", "train+train"),
    ("train_splits", "dev+validation"),
    ("train_splits", "test"),
    ("train_splits", "train+TEST"),
    ("eval_splits", None),
    ("eval_splits", 1),
    ("eval_splits", "test+"),
    ("eval_splits", "test+test"),
    ("eval_splits", "val"),
    ("max_train_samples", 0),
    ("max_train_samples", -1),
    ("max_train_samples", 1.0),
    ("max_train_samples", "5"),
    ("max_train_samples", True),
    ("max_eval_samples", 0),
    ("max_eval_samples", -5),
    ("max_eval_samples", 2.5),
    ("max_eval_samples", "all"),
    ("max_eval_samples", False),
    ("keep_out", None),
    ("keep_out", 3),
    ("keep_out", ["cv", 3]),
    ("keep_out", "cv\ncv"),
    ("keep_out", "\ncv"),
    ("keep_out", "\n".join(map(str, range(21)))),
    *[(f"leak_{kind}", wrong) for kind in ("speakers", "sentences", "audio", "near") for wrong in ("Drop", None, True)],
    ("leak_near", "drop"),  # without near
    ("near", 1),
    ("near", None),
    ("sampling", "last"),
    ("sampling", ""),
    ("sampling", None),
    ("seed", -1),
    ("seed", 1.0),
    ("seed", "7"),
    ("seed", True),
    ("seed", None),
    ("max_train_hours", 0),
    ("max_train_hours", float("nan")),
    ("max_train_hours", "10"),
    ("max_eval_hours", -1.0),
    ("max_eval_hours", True),
    ("max_train_share", 0),
    ("max_train_share", 1.5),
    ("max_eval_share", 0.0),
    ("max_eval_share", "a tenth"),
    ("max_per_speaker", 0),
    ("max_per_speaker", 1.5),
    ("max_per_sentence", -2),
    ("max_per_sentence", "all"),
    ("stratify", "colour"),
    ("stratify", "gender age"),
    ("stratify", "age,age"),
    ("stratify", "gender"),
    ("stratify", None),
    ("stratify_shares", "even"),
    ("stratify_shares", "equal"),
    ("min_up_votes", 0),
    ("min_up_votes", 2.0),
    ("max_down_votes", -1),
    ("max_down_votes", "none"),
    ("min_score", 1.5),
    ("reject", None),
    ("reject", 3),
    ("flag_low_snr", -1.0),
    ("flag_low_snr", "15 dB"),
    ("flag_quiet", 3.0),
    ("flag_clipped", 2.0),
    ("flag_dc", -0.1),
    ("flag_telephone", -1.0),
    ("flag_edges", True),
    ("flag_gap", float("nan")),
    ("flag_rate", -4.0),
    ("flag_script", 1.5),
    ("order", "shortest"),
    ("order", None),
    ("min_seconds", -0.1),
    ("min_seconds", 30),
    ("min_seconds", float("nan")),
    ("min_seconds", "0"),
    ("min_seconds", True),
    ("min_seconds", None),
    ("max_seconds", 0),
    ("max_seconds", -3),
    ("max_seconds", 1200.001),
    ("max_seconds", float("inf")),
    ("max_seconds", "30"),
    ("max_seconds", None),
    ("dataset_config", None),
    ("dataset_config", 3),
    ("dataset_revision", None),
    ("dataset_revision", 2.0),
    ("audio_column", None),
    ("audio_column", 3),
    ("text_column", None),
    ("text_column", ["text"]),
    ("language_column", None),
    ("language_column", 3),
    ("windows", "long"),
    ("windows", None),
    ("timestamps", 1.1),
    ("timestamps", "half"),
    ("previous", -0.1),
    ("previous", None),
    ("no_speech", 2.0),
    ("no_speech", True),
    ("lower_case", 0),
    ("lower_case", "yes"),
    ("lower_case", None),
    ("splits", "anew"),
    ("splits", None),
    ("validation_size", "500"),  # with the corpus's own splits
    ("validation_size", None),
    ("test_size", "half"),
    ("test_size", "50%"),
    ("test_size", 500),
    ("keep_eval", 1),
    ("keep_eval", "all"),
    ("keep_eval", None),
    ("clean", "apostrophe"),
    ("clean", "apostrophes quotes"),
    ("clean", None),
    ("clean", 1),
    ("storage", "zip"),
    ("storage", None),
    ("storage", ["audio"]),
    ("ctc_vocabulary", "none"),
    ("ctc_vocabulary", ""),
    ("ctc_least_count", 0),
    ("ctc_least_count", "2"),
    ("audio_rate_hz", 24),
    ("audio_rate_hz", 96000),
    ("audio_rate_hz", None),
    ("audio_rate_hz", 24000),
    ("feature_dtype", "bfloat16"),
    ("feature_dtype", None),
    ("log_mel", "faster"),
    ("log_mel", None),
    ("log_mel", True),
    ("shard_rows", -1),
    ("shard_rows", 2.0),
    ("shard_rows", None),
    ("shard_rows", False),
    ("num_workers", -1),
    ("num_workers", "2"),
    ("num_workers", None),
    ("num_workers", True),
    ("engine", "ray2"),
    ("engine", None),
    ("ray_address", None),
    ("ray_address", 6379),
    ("ray_address", "head:6379"),
    ("ray_address", "ray://head:10001"),
]


@pytest.mark.parametrize("field,value", BAD, ids=[f"{f}={v!r}" for f, v in BAD])
def test_every_rule_refuses_with_one_sentence_that_names_the_field(field, value):
    with pytest.raises((ValueError, TypeError)) as e: replace(CFG, **{field: value})
    said = str(e.value)
    assert field in said, said
    assert "\n" not in said and len(said) < (500 if field == "reject" else 200), said  # which names all flags


def test_outside_sets_are_named_one_a_line():
    cfg = PrepConfig("cv", "it", keep_out="corpora/cv:test\nmdc:abc\na/b:train+test_clean")
    assert outside_names(cfg.keep_out) == [("corpora/cv", "test"), ("mdc:abc", ""), ("a/b", "train+test_clean")]
    assert outside_names("") == [] and PrepConfig("cv", "it", keep_out=cfg.keep_out.split("\n")) == cfg


# Fields whose other values need another field beside them
TOGETHER = {
    "leak_near", "stratify", "stratify_shares", "validation_size", "test_size", "engine", "ray_address", "audio_rate_hz"
}


def test_every_field_is_tried_in_this_file():
    assert {f for f, _ in BAD} == {*field_types()} == {*OTHER, *TOGETHER}


@pytest.mark.parametrize("field", field_types())
def test_a_value_of_another_kind_is_a_type_error_or_no_choice(field):
    for value in (b"bytes", {}, (), object(), 1j):
        with pytest.raises((TypeError, ValueError), match=f"^{field} must be .*, got "): replace(CFG, **{field: value})


def test_limits_that_leave_nothing_are_refused():
    for low, high in ((5, 5), (5, 2), (29.9, 1)):
        with pytest.raises(ValueError, match="min_seconds must be below max_seconds"):
            replace(CFG, min_seconds=low, max_seconds=high)


@pytest.mark.parametrize("storage", ["audio", "source"])
def test_a_fast_log_mel_with_audio_stored_is_refused(storage):
    with pytest.raises(ValueError, match=f"log_mel must be exact with storage {storage}, got 'fast'"):
        replace(CFG, storage=storage, log_mel="fast")


def test_a_rate_of_flac_is_for_stored_sound_alone():
    for storage in ("audio", "source"): assert replace(CFG, storage=storage, audio_rate_hz=24000).audio_rate_hz == 24000
    with pytest.raises(ValueError, match="audio_rate_hz is for storage audio and source, got 24000 with storage feat"):
        replace(CFG, audio_rate_hz=24000)


def test_splits_that_leave_nothing_or_serve_twice_are_refused():
    with pytest.raises(ValueError, match="train_splits and eval_splits are both empty"):
        replace(CFG, train_splits=" ", eval_splits="")
    for a, b in (("train", "train"), ("train+dev", "validate"), ("test+other", "other")):
        with pytest.raises(ValueError, match="train_splits and eval_splits must share no split"):
            replace(CFG, train_splits=a, eval_splits=b)


def test_the_edges_that_are_allowed_are_allowed():
    for given_ in (
        dict(max_seconds=30),
        dict(max_seconds=30.0),
        dict(min_seconds=0),
        dict(max_seconds=1e-3),
        dict(max_train_samples=1),
        dict(seed=0),
        dict(shard_rows=0),
        dict(train_splits=""),
        dict(eval_splits=""),
        dict(language=""),
    ):
        cfg = replace(CFG, **given_)
        assert all(getattr(cfg, k) == v for k, v in given_.items())
    assert type(replace(CFG, max_seconds=30).max_seconds) is float


@pytest.mark.parametrize(
    "code",
    "it it-IT zh-CN zh_TW sv-SE pt ga-IE nan-tw rm-sursilv rm-vallader fy-NL hy-AM nn-NO pa-IN "
    "ca ckb kmr mhr yue sah tok zgh ne-NP zh-Hant-TW es-419".split(),
)
def test_locales_of_common_voice_are_valid_language_codes(code):
    assert PrepConfig("cv", code).language_code == code


# ---- splits

@pytest.mark.parametrize("name", ["validation", "validate", "valid", "dev", "val", " Dev ", "VALIDATION"])
def test_every_name_of_the_middle_split_is_validation(name):
    assert split_name(name) == "validation"
    assert split_names(f"train+{name}") == ("train", "validation")


# ---- fingerprint

@pytest.mark.parametrize("field", OTHER)
def test_a_fingerprint_changes_with_every_field_but_the_place_and_the_hands(field):
    other = replace(CFG, **{field: OTHER[field]})
    assert getattr(other, field) != getattr(CFG, field)
    assert (fingerprint(other) == fingerprint(CFG)) == (field in ("output_dir", "num_workers"))
    assert differing(shaping(CFG), shaping(other)) == ([] if field in ("output_dir", "num_workers") else [field])


@settings(deadline=None, max_examples=60)
@given(a=configs(), b=configs())
def test_two_configs_share_a_fingerprint_just_when_what_shapes_the_output_agrees(a, b):
    assert (fingerprint(a) == fingerprint(b)) == (shaping(a) == shaping(b)) == (not differing(shaping(a), shaping(b)))
    moved = replace(a, output_dir=b.output_dir, num_workers=b.num_workers)
    assert fingerprint(moved) == fingerprint(a) and len(fingerprint(a)) == 16 and int(fingerprint(a), 16) >= 0
    assert asdict(a).keys() - shaping(a).keys() == {*NOT_SHAPING}


def test_whole_seconds_and_their_float_are_one_setting():
    assert fingerprint(replace(CFG, max_seconds=20)) == fingerprint(replace(CFG, max_seconds=20.0))


def test_a_config_cannot_be_changed_after_it_was_checked():
    with pytest.raises(AttributeError): CFG.max_seconds = 45.0


def test_a_repr_shows_what_was_set_and_makes_the_config_again():
    cfg = replace(CFG, seed=7, max_train_samples=5)
    assert repr(cfg) == "PrepConfig(dataset_name='cv-corpus', language_code='it', max_train_samples=5, seed=7)"
    assert eval(repr(cfg)) == cfg


@pytest.mark.parametrize(
    "text", ["il <unk> treno *forte*", "_piano_ e `presto`", "[a](b) ~~c~~ $x$ &amp; \\*", "c_v_it|d"]
)
def test_a_sentence_in_a_table_is_shown_as_it_is(text):
    mistune = pytest.importorskip("mistune", reason="mistune is not installed")
    page = mistune.create_markdown(plugins=["table", "strikethrough"], escape=False)(
        Row("a", "train", "train", "f", 0, 1, text, "it", "s")._repr_markdown_()
    )
    assert html.unescape(re.search(r"<td>sentence</td>\s*<td>(.*?)</td>", page)[1]) == text


UNSEEN = {
    "clears the terminal": "\x1b[2J",
    "rings": "\x07",
    "8-bit escape": "\x9b31m",
    "delete": "\x7f",
    "nothing": "\0",
    "turns the line around": "\u202e",
    "isolates": "\u2066x\u2069",
    "right-to-left mark": "\u200f",
    "Arabic mark": "\u061c",
    "another line": "\u2028",
    "another paragraph": "\u2029",
    "next line": "\x85",
    "byte order mark": "\ufeff",
    "half a character": "\ud83d",
    "a byte that is no UTF-8": b"\xff".decode(errors="surrogateescape"),
    "tab": "\t",
    "line feed": "\n",
    "carriage return": "\r",
    "annotation": "\ufff9",
}


@pytest.mark.parametrize("unseen", UNSEEN.values(), ids=UNSEEN)
def test_what_acts_on_a_terminal_or_a_page_is_shown_by_its_code_on_every_way_out(unseen):
    acting = {c for c in unseen if not c.isalpha() and c not in "[]0123456789;"}
    text = f"a{unseen}b"
    for shown in (
        visible(text),
        visible_lines(text).replace("\n", ""),
        html_text(text),
        as_it_is(text),
        code_cell(text),
        table_cell(text),
        text_table([["id"], [text]]).splitlines()[-1],
        markdown_table([["id"], [text]]).splitlines()[-1],
        json_text(text),
    ):
        assert not acting & set(shown)
        shown.encode()
    assert visible(text).startswith("a\\") and json.loads(json_text({text: [text]})) == {text: [text]}


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp", "Cs"])))
def test_what_can_be_seen_stays(text):
    assert visible(text) == visible_lines(text) == text and html.unescape(html_text(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d👩\u200d👧 🏴\U000e0067\U000e0062\U000e007f",
        "می\u200cخواهم",
        "नमस्ते",
        "e\u0301",
        "𐐷 𝄞",
        "ไทย\u200bไทย",
        "a\u00a0b",
    ],
)
def test_scripts_and_emoji_stay_as_they_are(text): assert visible(text) == text


@settings(deadline=None)
@given(st.text(st.characters()))
def test_text_made_visible_is_visible_already_and_can_be_written(text):
    assert visible(visible(text)) == visible(text) and visible(text).isprintable() >= text.isprintable()
    visible(text).encode()
    assert json.loads(json_text([text])) == [text] and json_text([text]).encode()


@pytest.mark.parametrize(
    "text",
    [
        "# title",
        "- item",
        "+ item",
        "1. item",
        "23) item",
        "=====",
        "https://example.org/a_b",
        "www.example.org",
        "<https://a.org>",
        "![x](y)",
        "a\tb | c",
    ],
)
def test_a_text_at_the_start_of_a_line_of_markdown_is_shown_as_it_is(text):
    mistune = pytest.importorskip("mistune", reason="mistune is not installed")
    page = mistune.create_markdown(plugins=["table", "strikethrough", "url"], escape=False)(as_it_is(text))
    assert html.unescape(re.fullmatch(r"<p>(.*)</p>\n", page)[1]) == visible(text)


UNUSUAL = {  # a config file's ending and bytes, and what is said of it beside its name
    "an alias": (".yaml", b"dataset_name: &x cv\nlanguage_code: *x\n", "line 2: *x stands for another value"),
    "a billion laughs": (
        ".yml",
        b"a: &a [x,x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (98 + i, 98 + i, 97 + i, 97 + i) for i in range(20)),
        "line 2: *a stands",
    ),
    "a tag of Python": (".yaml", b"seed: 1\ndataset_name: !!python/object/apply:os.system [id]\n", "line 2"),
    "a tag of its own": (".yaml", b"seed: !mine 1\n", "line 1"),
    "a key twice": (".yaml", b"seed: 1\nlanguage_code: it\nseed: 2\n", "line 3: seed is given twice"),
    "a key twice in JSON": (
        ".json",
        b'{"seed": 1,\n "language_code": "it",\n "seed": 2}',
        "line 3: seed is given twice",
    ),
    "Latin-1": (".yaml", "seed: 1\ndataset_name: città\n".encode("latin-1"), "isn't in line 2: save it as UTF-8"),
    "UTF-16": (".json", '{"seed": 1}'.encode("utf-16"), "must be UTF-8"),
    "UTF-16 without a mark": (".yaml", "seed: 1\n".encode("utf-16-le"), "not valid YAML"),
    "no end": (".yaml", b"a: [1\nb: 2\n", "line 2"),
    "a bell": (".yaml", b"dataset_name: a\x07\n", "not valid YAML"),
    "a month too many": (".yaml", b"dataset_name: 2024-13-45\n", "month must be in 1..12"),
    "a key that is a list": (".yaml", b"? [a]\n: 1\n", "line 1"),
    "deep nesting": (".yaml", b"a: " + b"[" * 60_000, "nested too deeply"),
    "deep nesting in JSON": (".json", b"[" * 60_000, "nested too deeply"),
    "many digits": (".json", b'{"seed": ' + b"9" * 9000 + b"}", "the limit (4300"),
    "a large file": (".yaml", b"seed: 1 # " + b"x" * 70_000, "at most 64 kB"),
    "several documents": (".yaml", b"seed: 1\n---\nseed: 2\n", "line 2"),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_a_config_file_that_cannot_be_read_is_named_with_its_line(tmp_path, what):
    ending, data, says = UNUSUAL[what]
    path = tmp_path / f"run{ending}"
    path.write_bytes(data)
    with pytest.raises(ValueError) as e: read_settings(path)
    assert str(path) in str(e.value) and says in str(e.value) and len(str(e.value)) < 600


ODD = {
    "max_train_samples": ["100", 1.5, True, float("nan"), 10**30, [1], {}],
    "seed": ["7", -1, False, float("inf"), 10**500, None],
    "max_seconds": ["20", True, float("nan"), float("inf"), 10**400, -1e308, None, [20]],
    "num_workers": [10**20, 2.0, "all", None],
    "lower_case": ["yes", 1, 0, None],
    "clean": ["apostrophe", "apostrophes quotes", "quotes;dashes", None, 1],
    "dataset_name": [1, None, True, [], {"a": 1}, " \t", "a\ud800", b"cv"],
    "storage": [["audio"], 1, None, "Audio", True],
    "output_dir": [0, "", "\udcff"],
}


@pytest.mark.parametrize("name, value", [(n, v) for n, values in ODD.items() for v in values])
def test_a_value_that_a_field_cannot_have_is_refused_in_a_short_sentence(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^{name} ") as e:
        PrepConfig(**{"dataset_name": "cv", "language_code": "it", name: value})
    assert "got" in str(e.value) and len(str(e.value)) < 300
    str(e.value).encode()


def test_a_value_of_a_million_letters_is_not_quoted_whole():
    with pytest.raises(ValueError, match="1,000,000 characters") as e: PrepConfig("cv", "i" * 10**6)
    assert len(str(e.value)) < 300


def test_a_config_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_config(CFG, tmp_path / "run.yaml")
    assert load_config("~/run.yaml") == CFG
    with pytest.raises(ValueError, match="the config file begins with ~nobody-here"):
        load_config("~nobody-here/run.yaml")


KEPT_WITH_A_FIELD = {"group", "rule", "shapes", "verbatim", "bits", "none", "lines", "fold"}


def test_a_setting_is_one_line():
    "A field declared with `setting` has its rule, group, flag and help, and names only fields."
    @dataclass(frozen=True, repr=False)
    class Longer(PrepConfig):
        snr_db: int = setting("audio", 0, Rule(lambda v: v < 100, "must be below 100"))
    assert Longer("cv", "it").snr_db == 0 and {f.name: f.metadata["group"] for f in fields(Longer)}["snr_db"] == "audio"
    for f in fields(PrepConfig):
        assert f.metadata.keys() == KEPT_WITH_A_FIELD and f.metadata["group"] in GROUPS
    assert [*RULES] == [f.name for f in fields(PrepConfig) if f.metadata["rule"]]
