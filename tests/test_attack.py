"""Two users on one machine: what the second leaves in folders that both can write does the first no harm.

Each attack is tried on each command. Before and after, everything that the first user owns is hashed; a secret of the first must be in no output, no message and no upload; and nothing that the second left there is run."""
import hashlib, json, os, pickle, shutil, signal, subprocess, sys, tarfile, tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np, pyarrow as pa, soundfile as sf
import pytest

from audio_ft_prep import PrepConfig, load_prepared, prepare
from audio_ft_prep.load import inspect_corpus
from audio_ft_prep.run import Part
from audio_ft_prep.pipeline import merge
from audio_ft_prep.planning import plan
from audio_ft_prep.modelof import folder_model
from audio_ft_prep.reading import PreparedFolder, read_prep, verify
from audio_ft_prep.report import write_report
from conftest import COMMAND

SECOND = 54321  # a user id that nobody has
SECRET = "hf_thesecretofthefirstuser"
ALL = bool(os.environ.get("AUDIO_FT_PREP_ATTACKS"))  # every attack on every command; else each of the slow commands meets a few
EXPECTED = (ValueError, RuntimeError, OSError)  # one sentence each; anything else is a traceback to a user
SECONDS = 60
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="to act as a second user takes root"), pytest.mark.long]


def as_second(act):
    "Do something as the second user, in a process of its own."
    if not (pid := os.fork()):
        code = 1
        try:
            os.setgroups([])
            os.setgid(SECOND)
            os.setuid(SECOND)
            os.umask(0)
            act()
            code = 0
        except BaseException as e: print(f"the second user could not: {e!r}", file=sys.stderr)
        finally: os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@contextmanager
def in_time():
    "Fail where something waits for ever."
    def late(*_): raise AssertionError(f"no end after {SECONDS} s")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try: yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def state(root):
    "Everything below a folder: kind, mode, owner, time and content."
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        about = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path)] = (about.st_mode, about.st_uid, about.st_mtime_ns, content)
    return found


class Canary:
    "A pickle that leaves a sign where it is opened."
    def __init__(self, sign): self.sign = sign
    def __reduce__(self): return os.mknod, (str(self.sign),)


@pytest.fixture(scope="module")
def place():
    "A machine: the first user's home, with secret, data set and parts; a folder for all; and one with the sticky bit."
    root = Path(tempfile.mkdtemp(prefix="two-users-"))
    root.chmod(0o755)
    made = SimpleNamespace(
        root=root,
        home=root / "home",
        all=root / "all",
        sticky=root / "sticky",
        sign=root / "all/RAN",
        good=root / "good",
    )
    for path, mode in ((made.home, 0o755), (made.all, 0o777), (made.sticky, 0o1777), (made.good, 0o755)):
        path.mkdir()
        path.chmod(mode)
    (made.home / "token").write_text(SECRET)
    (made.home / "token").chmod(0o600)
    (made.home / "notes").mkdir()
    for name in ("data-00000-of-00003.arrow", "state.json", "tokenizer.json", "prep.json", "thesis.txt"):
        (made.home / "notes" / name).write_text(SECRET)
    settings = dict(model_id="openai/whisper-tiny", storage="audio", shard_rows=8, num_workers=1)
    prepare(PrepConfig("sample", "it", output_dir=str(made.home / "data"), **settings), progress=False)
    for i in range(2):
        prepare(
            PrepConfig("sample", "it", output_dir=str(made.good / f"part{i}"), **settings),
            progress=False,
            part=Part(i, 2),
        )
    shutil.copytree(made.good / "part0", made.home / "part0")
    shutil.copytree(made.home / "data", made.good / "whole")
    made.before = state(made.home)
    yield made
    shutil.rmtree(root)


# What the second user does to a folder. Each gets the folder, what its prep.json says, and the machine.

def rewrite(folder, prep): (folder / "prep.json").write_text(json.dumps(prep))


def renamed(name):
    "A shard by another name; the file is there too, where it can be."
    def attack(folder, prep, place):
        told = name.format(home=place.home)
        prep["shards"][0]["file"] = told
        rewrite(folder, prep)
    return attack


def listed(name, link=None):
    "One more file on the list, which is a link to something of the first user's."
    def attack(folder, prep, place):
        told = name.format(home=place.home)
        prep["files"][told] = hashlib.sha256(SECRET.encode()).hexdigest()
        if link: (folder / told).symlink_to(place.home / link)
        rewrite(folder, prep)
    return attack


def linked(name, to="token", listed_too=False):
    "A link in a file's or a folder's place; with the hash on the list, as somebody has it who knows the content."
    def attack(folder, prep, place):
        path = folder / (prep["shards"][0]["file"] if name == "shard" else name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(place.home / to)
        if listed_too:
            prep["files"][name] = hashlib.sha256(SECRET.encode()).hexdigest()
            rewrite(folder, prep)
    return attack


def moved(name):
    "The right file, by a link to where it has been moved."
    def attack(folder, prep, place):
        path = folder / (prep["shards"][0]["file"] if name == "shard" else name)
        away = folder.parent / f"away-{path.name}"
        os.rename(path, away)
        path.symlink_to(away)
    return attack


def fifo(name):
    def attack(folder, prep, place):
        path = folder / (prep["shards"][0]["file"] if name == "shard" else name)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    return attack


def sparse(name, size=1 << 40):
    def attack(folder, prep, place):
        (folder / name).unlink()
        with open(folder / name, "wb") as f: f.truncate(size)
    return attack


def edited(*path, value):
    "A field of prep.json that says something else."
    def attack(folder, prep, place):
        at = prep
        for key in path[:-1]: at = at[key]
        at[path[-1]] = value
        rewrite(folder, prep)
    return attack


def written(data):
    def attack(folder, prep, place): (folder / "prep.json").write_bytes(data)
    return attack


def consistent(name, value):
    "A file that says something else, with its hash on the list."
    def attack(folder, prep, place):
        text = json.dumps(value).replace("HOME", str(place.home))
        (folder / name).write_text(text)
        prep["files"][name] = hashlib.sha256(text.encode()).hexdigest()
        rewrite(folder, prep)
    return attack


def swapped(i, j):
    "Two shards that have changed names."
    def attack(folder, prep, place):
        shards = prep["shards"]
        shards[i], shards[j] = {**shards[j], "file": shards[i]["file"]}, {**shards[i], "file": shards[j]["file"]}
        rewrite(folder, {**prep, "shards": [*shards, dict(shards[0])]})
    return attack


def unlisted(folder, prep, place):
    "Files on no list: links to what the first user has, code, pickles, a FIFO, and a shard to be taken for one."
    (folder / "token").symlink_to(place.home / "token")
    (folder / "train").mkdir(exist_ok=True)
    (folder / "train/notes").symlink_to(place.home / "notes")
    (folder / "processor/tokenization.py").write_text(f"open({str(place.sign)!r}, 'w')")
    for name in ("pytorch_model.bin", "processor/vocab.pkl", "processor/pytorch_model.bin", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps(Canary(place.sign)))
    os.mkfifo(folder / "wait")
    os.mkfifo(folder / "processor/added_tokens.json")


def custom_code(folder, prep, place):
    "A processor that names code of its own, and the code beside it; every hash is right."
    (folder / "processor/evil.py").write_text(f"open({str(place.sign)!r}, 'w')")
    for name in (
        "processor/preprocessor_config.json",
        "processor/processor_config.json",
        "processor/tokenizer_config.json",
    ):
        path = folder / name
        text = json.dumps(
            json.loads(path.read_text()) | {
                "auto_map": {
                    "AutoProcessor": "evil.Evil",
                    "AutoTokenizer": ["evil.Evil", None],
                    "AutoFeatureExtractor": "evil.Evil",
                }
            }
        )
        path.write_text(text)
        prep["files"][name] = hashlib.sha256(text.encode()).hexdigest()
    rewrite(folder, prep)


def lying_offsets(folder, prep, place):
    "A shard whose strings are said to lie beyond the end of the file; size and hashes are right."
    path = folder / prep["shards"][0]["file"]
    ids = pa.ipc.open_stream(path.read_bytes()).read_all()["id"].chunk(0)
    true = ids.buffers()[1].to_pybytes()[:4 * (len(ids) + 1)]
    lie = b"".join(n.to_bytes(4, "little") for n in [0, *range(1 << 28, (1 << 28) + len(ids))])
    path.write_bytes(path.read_bytes().replace(true, lie, 1))
    data = path.read_bytes()
    prep["shards"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for split in {s["split"] for s in prep["shards"]}:
        name = f"{split}/state.json"
        told = json.loads((folder / name).read_text())
        told["_fingerprint"] = hashlib.sha256(
            "".join(s["sha256"] for s in prep["shards"] if s["split"] == split).encode()
        ).hexdigest()[:16]
        (folder / name).write_text(json.dumps(told))
        prep["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    rewrite(folder, prep)


ATTACKS = {
    "a name above": renamed("../../home/notes/thesis.txt"),
    "a name above, of a shard": renamed("../../home/notes/data-00000-of-00003.arrow"),
    "an absolute name": renamed("{home}/data/train/data-00000-of-00003.arrow"),
    "a name through the split": renamed("train/../../../home/notes/data-00000-of-00003.arrow"),
    "a name with a dot": renamed("train/./data-00000-of-00003.arrow"),
    "a name with two slashes": renamed("train//data-00000-of-00003.arrow"),
    "a name with a backslash": renamed("train\\data-00000-of-00003.arrow"),
    "a name with NUL": renamed("train/data-00000-of-00003.arrow\0.txt"),
    "a name with a line break": renamed("train/data-00000-of-00003.arrow\n"),
    "a name with capitals": renamed("Train/data-00000-of-00003.arrow"),
    "a name in other digits": renamed("train/data-0000\u0660-of-00003.arrow"),
    "a name of the other split": renamed("eval/data-00000-of-00003.arrow"),
    "an index beyond the count": renamed("train/data-00009-of-00003.arrow"),
    "a name that is a list": edited("shards", 0, "file", value=["train/data-00000-of-00003.arrow"]),
    "an index of another shard": edited("shards", 0, "index", value=-1),
    "two shards with one name": swapped(0, -1),
    "a split above": edited("counts", "..", value={"rows": 0, "kept": 0, "samples": 0, "rejects": {}}),
    "a listed file above": listed("../../home/token"),
    "a listed absolute file": listed("{home}/token"),
    "a listed link": listed("notes.txt", "token"),
    "a listed link among the processor": listed("processor/vocab.json", "token"),
    "listed code": listed("processor/evil.py", "token"),
    "a listed pickle": listed("processor/pytorch_model.bin", "token"),
    "a shard that is a link": linked("shard", "notes/thesis.txt"),
    "a shard that is a link to the right file": moved("shard"),
    "a split that is a link": linked("train", "notes"),
    "a processor that is a link": linked("processor", "notes"),
    "a processor that is a link to the right one": moved("processor"),
    "a tokenizer that is a link": linked("processor/tokenizer.json"),
    "rejects that are a link": linked("rejects.parquet"),
    "a card that is a link, its hash known": linked("README.md", listed_too=True),
    "a prep.json that is a link": linked("prep.json", "token"),
    "a prep.json that is a link to another's": linked("prep.json", "data/prep.json"),
    "a prep.json that is a FIFO": fifo("prep.json"),
    "a shard that is a FIFO": fifo("shard"),
    "rejects that are a FIFO": fifo("rejects.parquet"),
    "a tokenizer that is a FIFO": fifo("processor/tokenizer.json"),
    "a state that is a FIFO": fifo("train/state.json"),
    "splits above": consistent("dataset_dict.json", {"splits": ["../../home/data/train", "eval"]}),
    "a state that names a file above": consistent(
        "train/state.json",
        {
            "_data_files": [{"filename": "HOME/data/train/data-00000-of-00003.arrow"}],
            "_fingerprint": "0" * 16,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": "train",
        },
    ),
    "an info that decodes paths": consistent(
        "train/dataset_info.json",
        {"features": {"audio": {"sampling_rate": 16000, "decode": True, "_type": "Audio"}}},
    ),
    "a prep.json of a terabyte": sparse("prep.json"),
    "rejects of a terabyte": sparse("rejects.parquet"),
    "a card of a terabyte": sparse("README.md"),
    "a shard of a negative size": edited("shards", 0, "bytes", value=-1),
    "rows as text": edited("shards", 0, "rows", value="6"),
    "rows that are true": edited("shards", 0, "rows", value=True),
    "counts without end": edited("counts", "train", "rows", value=10**30),
    "reasons that are markup": edited("counts", "train", "rejects", value={"<img src=x>": 1}),
    "no shards": edited("shards", value=[]),
    "a config that is a list": edited("config", value=[]),
    "a storage that isn't": edited("config", "storage", value={"features": 1}),
    "a model of no mels": edited("model", "mels", value=0),
    "versions that are markup": edited("versions", "torch", value="<script>"),
    "lists without end": written(b"[" * 200_000),
    "NaN": written(b'{"hash": NaN}'),
    "a key twice": written(b'{"hash": 1, "hash": 2}'),
    "half a character": written(b'{"hash": "\\ud800"}'),
    "no Unicode": written(b'\xff\xfe{"hash": 1}'),
    "nothing": written(b""),
    "lying offsets": lying_offsets,
    "custom code": custom_code,
    "files on no list": unlisted,
}
HARMLESS = {"files on no list", "custom code"}  # what prep.json names is right, and nothing else is touched
SLOW = {
    "files on no list",
    "custom code",
    "a shard that is a link to the right file",
    "a card that is a link, its hash known",
    "lying offsets",
    "a prep.json that is a FIFO",
    "a listed link among the processor",
    "a name above",
}


def copy_by_second(place, source, name, attack):
    "A folder of the second user's own, below the folder for all, as the attack leaves it."
    target = place.all / name
    def act():
        (target.parent).mkdir(exist_ok=True)
        shutil.copytree(place.good / source, target, copy_function=shutil.copyfile)
        attack(target, json.loads((target / "prep.json").read_text()), place)
    as_second(act)
    return target


def told(command):
    "What a command says: its result or its sentence, and whether it did what was asked."
    with in_time():
        try: return repr(command()), True
        except EXPECTED as e: return f"{e}", False


def unharmed(place, said):
    assert state(place.home) == place.before, "something of the first user's was changed"
    assert not place.sign.exists(), "something of the second user's was run"
    assert SECRET not in said, said


@pytest.fixture
def folder(place, request):
    "A place for one attack."
    name = f"case-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    yield f"{name}/it"
    shutil.rmtree(place.all / name, ignore_errors=True)


@pytest.mark.parametrize("attack", ATTACKS)
def test_verifying_a_folder_of_another_finds_it_and_touches_nothing(place, folder, attack):
    said, _ = told(lambda: verify(copy_by_second(place, "whole", folder, ATTACKS[attack])))
    unharmed(place, said)
    assert (said == "[]") == (attack in HARMLESS), said


@pytest.mark.parametrize("attack", ATTACKS)
def test_opening_a_folder_of_another_reads_what_it_names_or_nothing(place, folder, attack):
    def opening():
        "The rows, and the processor, as a training script opens them."
        given = copy_by_second(place, "whole", folder, ATTACKS[attack])
        lengths = [len(rows[0]["labels"]) for rows in load_prepared(given).values()]
        return lengths, folder_model(PreparedFolder.of(given)).rate_hz

    said, opened = told(opening)
    unharmed(place, said)
    if attack in HARMLESS: assert opened, said
    elif not any(a in attack for a in ("card", "rejects that are", "rejects of", "tokenizer that is a FIFO")):
        assert not opened, said


@pytest.mark.parametrize("attack", ATTACKS)
def test_merging_a_part_of_another_writes_its_output_and_nothing_else(place, folder, attack):
    part = copy_by_second(place, "part1", folder, ATTACKS[attack])
    out = place.root / "merged"
    try:
        said, merged = told(lambda: merge([place.home / "part0", part], out))
        unharmed(place, said)
        assert merged == (attack == "files on no list"), said
        if merged:
            assert verify(out) == [] and all(
                p.lstat().st_uid == 0
                and not p.is_symlink()
                and SECRET.encode() not in (p.read_bytes() if p.is_file() else b"")
                for p in out.rglob("*")
            )
            assert read_prep(out)["hash"] == read_prep(place.home / "data")["hash"]
    finally: shutil.rmtree(out, ignore_errors=True)


@pytest.mark.parametrize("attack", ATTACKS if ALL else sorted(SLOW))
def test_a_report_of_a_folder_of_another_shows_what_it_names_or_nothing(place, folder, attack):
    pytest.importorskip("matplotlib")
    from audio_ft_prep.views import PreparedClips
    from audio_ft_prep.report import report_html
    there = copy_by_second(place, "whole", folder, ATTACKS[attack])
    said, _ = told(lambda: (report_html(there), PreparedClips(there).tokenizer))
    unharmed(place, said)


@pytest.mark.parametrize("attack", ATTACKS if ALL else sorted(SLOW))
def test_preparing_into_a_folder_of_another_leaves_it_or_refuses_it(place, folder, attack):
    there = copy_by_second(place, "whole", folder, ATTACKS[attack])
    cfg = PrepConfig(
        "sample",
        "it",
        model_id="openai/whisper-tiny",
        storage="audio",
        shard_rows=8,
        num_workers=1,
        output_dir=str(there),
    )
    said, _ = told(lambda: prepare(cfg, progress=False))
    unharmed(place, said)


@pytest.fixture(scope="module")
def core():
    "A platform to upload to."
    pytest.importorskip("digitalhub", reason="the platform's SDK isn't installed")
    from standin import platform
    with platform() as made: yield made


@pytest.mark.parametrize("attack", ATTACKS if ALL else sorted(SLOW))
def test_an_upload_of_a_folder_of_another_sends_what_it_names_or_nothing(place, core, folder, attack):
    from audio_ft_prep.artifact import get_project, log_prepared, manifest
    there = copy_by_second(place, "whole", folder, ATTACKS[attack])
    project = get_project(f"speech-{folder[5:13]}")
    said, sent = told(lambda: log_prepared(project, "it", there, retries=0, progress=False))
    unharmed(place, said)
    keys = core.s3.objects(project.name)
    assert sent == (attack in HARMLESS), said
    assert len(keys) == (len(manifest(read_prep(there))) if sent else 0)
    for key in keys:
        assert SECRET.encode() not in core.s3.direct.get_object(Bucket=core.s3.bucket, Key=key)["Body"].read()


def test_what_was_merged_cant_be_changed_by_the_owner_of_a_part(place, folder):
    "A shard of another user's is copied: a link would leave its owner able to write to it."
    part = copy_by_second(place, "part1", folder, lambda folder, prep, place: None)
    out = place.root / "merged"
    try:
        merge([place.home / "part0", part], out)
        def act():
            for shard in part.rglob("*.arrow"): shard.write_bytes(b"")
        as_second(act)
        assert verify(out) == []
    finally: shutil.rmtree(out, ignore_errors=True)


def test_a_file_that_changes_after_it_was_verified_is_not_uploaded(place, core, folder, monkeypatch):
    "As the second user does who waits for the moment between the look and the sending."
    from audio_ft_prep import artifact
    there = copy_by_second(place, "whole", folder, lambda folder, prep, place: None)
    whole = artifact.verified_folder
    def verified(folder):
        found = whole(folder)
        def act():
            for name in ("README.md", "prep.json", "rejects.parquet"):
                (there / name).unlink()
                (there / name).symlink_to(place.home / "token")
        as_second(act)
        return found
    monkeypatch.setattr(artifact, "verified_folder", verified)
    said, sent = told(lambda: artifact.log_prepared("speech-late", "it", there, retries=0, progress=False))
    unharmed(place, said)
    assert not sent and core.s3.objects("speech-late") == {}


@pytest.mark.parametrize("name", ["train", "processor", "README.md", "rejects.parquet", "prep.json", ".work"])
def test_a_link_in_the_folder_to_be_written_is_not_written_through(place, folder, name):
    there = place.all / folder
    def act():
        there.mkdir(parents=True)
        (there / name).symlink_to(place.home / ("token" if "." in name[1:] else "notes"))
    as_second(act)
    cfg = PrepConfig(
        "sample",
        "it",
        model_id="openai/whisper-tiny",
        storage="audio",
        shard_rows=8,
        num_workers=1,
        output_dir=str(there),
    )
    said, made = told(lambda: prepare(cfg, progress=False))
    unharmed(place, said)
    assert not made, said


# Folders in which both users write while a command of the first runs, and what the second leaves where it looks.

SETTINGS = dict(model_id="openai/whisper-tiny", storage="audio", shard_rows=8, num_workers=1)
COMMAND_LINE = [
    "--dataset-name",
    "sample",
    "--language-code",
    "it",
    "--model-id",
    "openai/whisper-tiny",
    "--storage",
    "audio",
    "--max-train-samples",
    "3",
    "--max-eval-samples",
    "2",
    "--num-workers",
    "1",
]


def in_the_midst(monkeypatch, act, of):
    "Have the second user act when a run comes to a function that writes its folder."
    from audio_ft_prep import output
    whole = getattr(output, of)
    def met(*args, **how):
        as_second(act)
        return whole(*args, **how)
    monkeypatch.setattr(output, of, met)


SWAPS = [
    (name, of)
    for name in ("train", "eval", "processor", ".")
    for of in ("_save_processor", "_strays", "_dataset_files", "_describe")
]


@pytest.mark.parametrize(
    "name, of", SWAPS if ALL else SWAPS[1::4] + [("processor", "_save_processor"), ("train", "_dataset_files")]
)
def test_a_folder_that_becomes_a_link_during_a_run_is_not_written_through(place, folder, monkeypatch, of, name):
    there = place.all / folder
    def swap():
        if (there / name).is_symlink() or there.is_symlink(): return
        path = there / name if name != "." else there
        if path.exists(): os.rename(path, path.with_name("away"))
        path.symlink_to(place.home / "data" / ("" if name == "." else name))
    as_second(lambda: there.mkdir(parents=True))
    in_the_midst(monkeypatch, swap, of)
    said, _ = told(lambda: prepare(PrepConfig("sample", "it", output_dir=str(there), **SETTINGS), progress=False))
    unharmed(place, said)


@pytest.mark.parametrize("name", ["train", "eval"])
def test_a_split_that_becomes_a_link_during_a_merge_is_not_written_through(place, folder, monkeypatch, name):
    from audio_ft_prep import parts
    there, take = place.all / folder, parts.take_shard
    def swap():
        os.rename(there / name, there / "away")
        (there / name).symlink_to(place.home / "data" / name)
    def met(*args):
        if not (there / name).is_symlink(): as_second(swap)
        return take(*args)
    as_second(lambda: there.mkdir(parents=True))
    monkeypatch.setattr(parts, "take_shard", met)
    said, made = told(lambda: merge([place.good / "part0", place.good / "part1"], there))
    unharmed(place, said)
    assert not made and "must be a plain folder" in said


def test_the_link_that_was_named_as_output_is_followed_once(place, folder):
    there = place.all / folder
    there.parent.mkdir()
    (there.parent / "link").symlink_to(there)
    made = prepare(PrepConfig("sample", "it", output_dir=str(there.parent / "link"), **SETTINGS), progress=False)
    assert made.folder == there and not verify(there)


MODULES = ["multiprocessing", "socket", "pickle", "tempfile", "selectors", "numpy", "soundfile", "audio_ft_prep"]


@pytest.mark.parametrize(
    "command", [["plan"], ["prepare", "--output-dir", "{home}/../good/here"]], ids=["plan", "prepare"]
)
def test_no_module_of_the_folder_that_a_command_is_started_in_is_run(place, folder, command):
    there = place.all / folder
    def act():
        there.mkdir(parents=True)
        for name in MODULES: (there / f"{name}.py").write_text(f"open({str(place.sign)!r}, 'w').close()")
    as_second(act)
    args = [a.format(home=place.home) for a in command]
    done = subprocess.run([COMMAND, *args, *COMMAND_LINE], cwd=there, capture_output=True, text=True, timeout=SECONDS)
    unharmed(place, done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("where, name", [("all", ".report.html.part"), ("sticky", "report.html")])
def test_a_report_is_not_written_through_a_link(place, folder, where, name):
    there = getattr(place, where) / folder
    def act():
        there.mkdir(parents=True)
        (there / name).symlink_to(place.home / "notes/thesis.txt")
    as_second(act)
    write_report(place.good / "whole", there / "report.html", most_clips=1)
    unharmed(place, (there / "report.html").read_text())
    shutil.rmtree(there)


# A corpus, a model and a cache that the second user writes, as the first looks at them.

def link_to(name, to):
    def leave(there, place):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).unlink(missing_ok=True)
        (there / name).symlink_to(place.home / to)
    return leave


def pipe_at(name):
    def leave(there, place):
        (there / name).unlink(missing_ok=True)
        os.mkfifo(there / name)
    return leave


def pickle_at(name):
    def leave(there, place): (there / name).write_bytes(pickle.dumps(Canary(place.sign)))
    return leave


def code_at(there, place):
    (there / "evil.py").write_text(f"open({str(place.sign)!r}, 'w')")
    held = json.loads((there / "tokenizer_config.json").read_text())
    (there / "tokenizer_config.json").write_text(
        json.dumps(held | {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}})
    )


MODELS = {
    "a template that is a link": link_to("chat_template.jinja", "token"),
    "templates that are links": link_to("additional_chat_templates/tool.jinja", "token"),
    "a tokenizer that is a link": link_to("tokenizer.json", "notes/tokenizer.json"),
    "a tokenizer that is a FIFO": pipe_at("tokenizer.json"),
    "weights that are a pickle": pickle_at("pytorch_model.bin"),
    "code of its own": code_at,
}
CORPORA = {
    "a table that is a link": link_to("metadata.csv", "notes/thesis.txt"),
    "a table that is a FIFO": pipe_at("metadata.csv"),
    "a table beside it that is a FIFO": pipe_at("train.tsv"),
    "a clip that is a link": link_to("one.wav", "token"),
    "a clip that is a FIFO": pipe_at("one.wav"),
    "a folder that is a link": link_to("more", "notes"),
    "a circle": link_to("round", "../all"),
    "a state that is a link": link_to("dataset_dict.json", "notes/state.json"),
    "a pickle": pickle_at("one.wav"),
}


def corpus_in(there):
    (there / "metadata.csv").write_text("file_name,sentence\none.wav,ciao\ntwo.wav,a domani\n")
    for name in ("one", "two"): sf.write(there / f"{name}.wav", np.random.default_rng(1).normal(0, 0.1, 16000), 16000)


@pytest.mark.parametrize("attack", MODELS)
def test_a_model_of_another_is_read_where_it_is_plain(place, folder, attack, tmp_path):
    there = place.all / folder
    shutil.copytree(place.good / "whole/processor", place.good / "model", dirs_exist_ok=True)
    def act():
        there.mkdir(parents=True)
        for p in (place.good / "model").iterdir(): shutil.copyfile(p, there / p.name)
        MODELS[attack](there, place)
    as_second(act)
    cfg = PrepConfig(
        "sample",
        "it",
        output_dir=str(tmp_path / "out"),
        max_train_samples=2,
        max_eval_samples=1,
        **{**SETTINGS, "model_id": str(there)}
    )
    said, made = told(lambda: prepare(cfg, progress=False))
    unharmed(place, said)
    assert made != attack.startswith("a tokenizer"), said
    assert not any(SECRET.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize("attack", CORPORA)
@pytest.mark.parametrize("look", ["inspect", "plan"])
def test_a_corpus_of_another_is_looked_at_and_nothing_of_the_first_user_is_shown(place, folder, look, attack):
    there = place.all / folder
    def act():
        there.mkdir(parents=True)
        corpus_in(there)
        CORPORA[attack](there, place)
    as_second(act)
    cfg = PrepConfig(str(there), "it", eval_splits="", **SETTINGS)
    said, _ = told(lambda: json.dumps(inspect_corpus(str(there))) if look == "inspect" else str(plan(cfg)))
    unharmed(place, said)


@pytest.mark.parametrize(
    "name, to",
    [("collective", "notes"), ("collective", "nowhere"), ("collective-0", "notes"), ("collective.lock", "token")],
)
@pytest.mark.parametrize("where", ["all", "sticky"])
def test_a_cache_that_others_write_to_is_not_written_through(place, folder, monkeypatch, name, to, where):
    cache, archive = getattr(place, where) / folder, place.good / "release.tar.gz"
    def act():
        cache.mkdir(parents=True)
        (cache / name).symlink_to(place.home / to)
    as_second(act)
    if not archive.exists(): release(archive)
    monkeypatch.setenv("AUDIO_FT_PREP_CACHE", str(cache))
    said, made = told(lambda: json.dumps(inspect_corpus(str(archive))))
    unharmed(place, said)
    assert made and "ciao" in said, said
    shutil.rmtree(cache)


def release(path):
    "A release of two clips, packed."
    with tempfile.TemporaryDirectory() as d, tarfile.open(path, "w:gz") as tar:
        clips = Path(d) / "it/clips"
        clips.mkdir(parents=True)
        corpus_in(clips)
        (clips / "metadata.csv").unlink()
        (Path(d) / "it/train.tsv").write_text("path\tsentence\none.wav\tciao\ntwo.wav\ta domani\n")
        tar.add(Path(d) / "it", "it")
