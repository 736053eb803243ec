"A model's folder may be anybody's: what is damaged or hostile in it ends in one sentence that names the file, soon, and nothing of it is run."
import errno, json, os, shutil, socket, time
from pathlib import Path

import pytest

from audio_ft_prep.families import save_processor
from audio_ft_prep.modelfiles import MOST_BYTES, check_patterns
from audio_ft_prep.models import load_model
from audio_ft_prep.whisper import label_language, labels_of, language_tokenizer
from conftest import flags, sentence

pytestmark = pytest.mark.light


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "The folder of a model that is in order."
    folder = tmp_path_factory.mktemp("model") / "whisper"
    small = load_model("openai/whisper-small")
    save_processor(folder, small, small.tokenizer)
    (folder / "config.json").write_text('{"max_target_positions": 448}')
    return folder


@pytest.fixture
def model(whole, tmp_path): return Path(shutil.copytree(whole, tmp_path / "model"))


def changed(path, change):
    held = json.loads(path.read_text(encoding="utf-8"))
    change(held)
    path.write_text(json.dumps(held), encoding="utf-8")


DEEP = "[" * 100_000 + "]" * 100_000
NO_OBJECT = {
    "a list": "[]",
    "a number": "3",
    "nothing": "",
    "null": "null",
    "cut": '{"a": [1,',
    "deep": '{"a": ' + DEEP + "}",
    "NaN": '{"a": NaN}',
    "beyond numbers": '{"a": 1e999}',
    "endless digits": '{"a": ' + "9" * 9000 + "}",
    "no UTF-8": b'{"a": "\xff"}',
    "two objects": "{}{}",
}


@pytest.mark.parametrize(
    "name, what",
    [("config.json", w) for w in NO_OBJECT]
    + [
        (n, w)
        for n in ("preprocessor_config.json", "tokenizer_config.json", "tokenizer.json")
        for w in ("a list", "cut", "deep")
    ],
)
def test_a_file_of_a_model_that_is_no_json_object_is_named(model, name, what):
    content = NO_OBJECT[what]
    (model / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=name.replace(".", r"\.")): load_model(str(model))


VALUES = {
    "preprocessor_config.json": [
        ("feature_size", "80"),
        ("feature_size", 10**9),
        ("sampling_rate", 16000.5),
        ("hop_length", 0),
        ("chunk_length", -1),
        ("n_fft", True),
        ("chunk_length", None),
        ("dither", "much"),
        ("padding_value", [0]),
    ],
    "config.json": [
        ("max_target_positions", "448"),
        ("max_target_positions", 0),
        ("max_target_positions", 1e300),
        ("max_target_positions", True),
        ("max_target_positions", None),
        ("max_target_positions", 2**63),
    ],
}


@pytest.mark.parametrize("name, key, value", [(n, *kv) for n, pairs in VALUES.items() for kv in pairs])
def test_a_setting_of_a_model_that_cannot_be_is_refused_by_name(model, name, key, value):
    if name != "config.json": (model / "processor_config.json").unlink()
    changed(model / name, lambda held: held.update({key: value}))
    with pytest.raises(ValueError, match=f"{key} must be.*{name}"): load_model(str(model))


SHAPES = {
    "no model": lambda t: t.pop("model"),
    "a list for a vocabulary": lambda t: t["model"].update(vocab=[1]),
    "merges of unknown pieces": lambda t: t["model"].update(merges=[["qqqq", "zzzz"]]),
    "merges that are numbers": lambda t: t["model"].update(merges=[1, 2]),
    "an unknown kind": lambda t: t["model"].update(type="Oracle"),
    "added tokens of another shape": lambda t: t.update(added_tokens=["ciao"]),
    "a decoder that is text": lambda t: t.update(decoder="none"),
}


@pytest.mark.parametrize("what", SHAPES)
def test_a_tokenizer_of_another_shape_ends_in_a_sentence(model, what):
    changed(model / "tokenizer.json", SHAPES[what])
    with pytest.raises((ValueError, FileNotFoundError), match=str(model)): load_model(str(model))


def test_a_file_that_is_too_large_is_not_read(model):
    with open(model / "tokenizer.json", "wb") as f: f.truncate(MOST_BYTES + 1)
    with pytest.raises(ValueError, match="tokenizer.json must have at most 64 MB"): load_model(str(model))


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "added_tokens.json"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_plain_file_is_not_opened(model, name, kind):
    (model / name).unlink(missing_ok=True)
    {"fifo": os.mkfifo, "folder": os.mkdir, "device": lambda p: os.symlink("/dev/zero", p)}[kind](model / name)
    with pytest.raises(ValueError, match=name): load_model(str(model))


@pytest.mark.parametrize("name", ["added_tokens.json", "config.json", "merges.txt"])
def test_a_link_out_of_a_models_folder_is_not_followed(model, tmp_path, name):
    (tmp_path / "private").write_text('{"secret": 1}')
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(tmp_path / "private")
    with pytest.raises(ValueError, match=f"{name} must lie in the model's folder"): load_model(str(model))


@pytest.mark.parametrize(
    "name",
    [
        "chat_template.jinja",
        "chat_template.json",
        "additional_chat_templates/tool.jinja",
        "tokenizer.4.0.0.json",
        "vocab.txt",
    ],
)
def test_a_file_that_is_not_needed_is_neither_read_nor_saved(model, tmp_path, name):
    (tmp_path / "private").write_text('{"chat_template": "my diary"}')
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).symlink_to(tmp_path / "private")
    got = load_model(str(model))
    save_processor(tmp_path / "saved", got, got.tokenizer)
    saved = [p for p in (tmp_path / "saved").rglob("*") if p.is_file()]
    assert saved and not any("my diary" in p.read_text() for p in saved)


def test_a_full_folder_for_temporary_files_ends_in_a_sentence(model, monkeypatch):
    def full(*_): raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="can't be copied to .* set TMPDIR"): load_model(str(model))


def test_what_is_saved_of_a_models_folder_is_the_same_each_time(model, tmp_path):
    for n in "ab":
        got = load_model(str(model))
        save_processor(tmp_path / n, got, got.tokenizer)
    same = lambda n: {p.name: p.read_bytes() for p in (tmp_path / n).iterdir()}
    assert same("a") == same("b")


def test_links_of_a_hub_cache_to_its_own_store_are_followed(whole, tmp_path):
    repo = tmp_path / "models--a--b"
    blobs, snapshot = repo / "blobs", repo / "snapshots" / ("0" * 40)
    shutil.copytree(whole, blobs)
    snapshot.mkdir(parents=True)
    for p in blobs.iterdir(): (snapshot / p.name).symlink_to(os.path.relpath(p, snapshot))
    assert load_model(str(snapshot)).max_labels == 448


@pytest.mark.parametrize("key", ["tokenizer_file", "vocab_file", "merges_file", "fast_tokenizer_files"])
def test_a_tokenizer_that_names_a_file_elsewhere_is_refused(model, key):
    changed(model / "tokenizer_config.json", lambda held: held.update({key: "/etc/hostname"}))
    with pytest.raises(ValueError, match=f"must name no file, and has {key}"): load_model(str(model))


def small_tokenizer(**parts):
    from tokenizers import Tokenizer, models
    return Tokenizer.from_str(json.dumps(json.loads(Tokenizer(models.BPE()).to_str()) | parts))


HOSTILE = [
    "(a+)+b",
    "(a|aa)+c",
    "(.*)*x",
    "a*a*a*a*a*b",
    "(?:a?){40}a{40}",
    "a?" * 30 + "a" * 30,
    r"(\w)\1+",
    "((a))+",
    "(a|a)" * 25,
    "a*(|b)a*(|b)a*c",
]


@pytest.mark.parametrize("place", ["pre_tokenizer", "normalizer", "nested"])
@pytest.mark.parametrize("pattern", HOSTILE)
def test_a_pattern_that_may_never_end_is_refused(pattern, place):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    replace = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
    parts = {
        "pre_tokenizer": ("pre_tokenizer", split),
        "nested": ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, split]}),
        "normalizer": ("normalizer", replace),
    }
    key, part = parts[place]
    with pytest.raises(ValueError, match="which may never end"):
        check_patterns(small_tokenizer(**{key: part}), "a model")


@pytest.mark.parametrize(
    "pattern",
    [
        r"\s+",
        r"\p{N}{1,3}",
        r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    ],
)
def test_a_usual_or_simple_pattern_is_taken(pattern):
    check_patterns(
        small_tokenizer(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        ),
        "a model",
    )


def test_a_model_with_a_hostile_pattern_is_refused_before_a_sentence_is_read(model):
    changed(
        model / "tokenizer.json",
        lambda held: held.update(normalizer={"type": "Replace", "pattern": {"Regex": "(a|aa)+$"}, "content": ""}),
    )
    began = time.monotonic()
    try: load_model(str(model)).tokenizer("a" * 60 + "b")  # unless the library has put Whisper's own in its place
    except ValueError as e: assert "which may never end" in str(e)
    assert time.monotonic() - began < 60


def test_code_that_comes_with_a_model_is_never_run(model, tmp_path):
    mark = tmp_path / "was here"
    (model / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    auto = {
        "AutoTokenizer": ["evil.Evil", "evil.Evil"],
        "AutoProcessor": "evil.Evil",
        "AutoFeatureExtractor": "evil.Evil",
        "AutoConfig": "evil.Evil",
    }
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
        changed(model / name, lambda held: held.update(auto_map=auto))
    assert load_model(str(model)).start_id == 50258 and not mark.exists()


@pytest.mark.parametrize("token", ["<|endoftext|>", "<|startoftranscript|>", "<|it|>", "<|0.00|>", "<|notimestamps|>"])
def test_control_tokens_in_a_sentence_are_text_for_a_models_own_tokenizer(model, token):
    own = load_model(str(model))
    tokenizer = language_tokenizer(own, label_language(own, "it"))
    (ids,) = labels_of([f"ciao {token} mondo"], tokenizer)
    control = own.tokenizer.convert_tokens_to_ids(token)
    plain, = labels_of(["ciao mondo"], tokenizer)
    assert (
        ids.count(control) == plain.count(control)
        and tokenizer.backend_tokenizer.decode(ids[len(tokenizer.prefix_tokens) : -1], skip_special_tokens=False)
        == f"ciao {token} mondo"
    )


@pytest.mark.parametrize("token", ["</s>", "[PAD]", "<unk>", "treno"])
def test_special_tokens_of_a_models_own_in_a_sentence_are_text(model, token):
    changed(
        model / "tokenizer.json",
        lambda held: held["added_tokens"].append(
            {
                "id": 60_000,
                "content": token,
                "special": True,
                "normalized": False,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
            }
        ),
    )
    own = load_model(str(model))
    (ids,) = labels_of([f"il {token} parte"], language_tokenizer(own, "it"))
    assert (
        own.tokenizer.convert_tokens_to_ids(token) not in ids
        and own.tokenizer.backend_tokenizer.decode(ids[4:-1]) == f"il {token} parte"
    )


def test_the_command_says_it_in_one_sentence(model, start):
    (model / "config.json").write_text("[]")
    got = start("plan", *flags(dataset_name="sample", language_code="it", model_id=model)).wait()
    assert got.code == 2 and "config.json must hold an object, got list" in sentence(got.err)


def test_a_home_that_is_not_known_is_no_model():
    with pytest.raises(ValueError, match="model_id begins with ~nobody-here"): load_model("~nobody-here/model")


def test_a_model_that_the_hub_does_not_have_is_named_after_one_question(hub):
    with pytest.raises(FileNotFoundError, match="no model somebody/whisper-of-mine on http://127.0.0.1"):
        load_model("somebody/whisper-of-mine")
    assert [request.target for request in hub.log] == ["/api/models/somebody/whisper-of-mine"]


def test_a_hub_that_cannot_be_reached_is_named_and_not_asked_again(hub, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", closed)
    why = f"{closed} can't be reached, and somebody/whisper-of-mine was not fetched before"
    with pytest.raises(ConnectionError, match=why):
        load_model("somebody/whisper-of-mine")
