"""What several test files share: the sample corpus read by other means, folders prepared once, and the command in a process of its own."""
import json, os, shutil, signal, subprocess, sys, tarfile, time
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

os.environ["HF_TOKEN_PATH"] = os.devnull  # read when huggingface_hub is imported: a login on this machine is none of the tests' business

import pytest

try:
    from hypothesis import HealthCheck, settings
    settings.register_profile("commit", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a commit is judged by the same draws each time
    settings.register_profile("search", deadline=None)  # HYPOTHESIS_PROFILE=search draws anew
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "commit"))
except ImportError: pass

import audio_ft_prep
from audio_ft_prep.rows import close_files
from standin_hub import StandinHub

SAMPLE = Path(audio_ft_prep.__file__).parent / "data" / "sample"
PATIENCE_S = 180  # for what a browser does at once on an idle machine
COMMAND = str(Path(sys.executable).parent / "audio-ft-prep")
USED = {"train": "train", "dev": "validation", "test": "test"}  # a split's file, and its name here


def pytest_configure(config): config.figures = []


SLOW = [
    "test_ray",
    "test_faults",
    "test_artifact",
    "test_platform",
    "test_lab",
    "test_bench",
    "test_prepare",
    "test_widgets",
    "test_train",
    "test_plots",
    "test_report",
    "test_urls",
    "test_models",
    "test_process",
    "test_attack",
    "test_forecast",
    "test_site",
    "test_browser",
    "test_cli",
    "test_doctor",
    "test_hub",
    "test_augment",
    "test_fuzz",
]  # begun first, so that no process waits long for another's last file


@pytest.hookimpl(tryfirst=True)  # before -m chooses among them
def pytest_collection_modifyitems(items):
    order = {name: i for i, name in enumerate(SLOW)}
    items.sort(key=lambda i: order.get(i.path.stem, len(SLOW)))
    for i in items:
        if "browser" in getattr(i, "fixturenames", ()): i.add_marker(pytest.mark.long)


def pytest_sessionfinish(session):
    "A process among several hands its lines over to the one that prints."
    if hasattr(session.config, "workeroutput"): session.config.workeroutput["figures"] = session.config.figures


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node): node.config.figures += getattr(node, "workeroutput", {}).get("figures", [])


def pytest_terminal_summary(terminalreporter, config):
    if config.figures: terminalreporter.section("measured")
    for line in config.figures: terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def figure(pytestconfig):
    "Have a line shown when all tests are done."
    return pytestconfig.figures.append


def patient(new):
    "Have pages and contexts wait as long as a busy machine takes."
    def made(**how):
        got = new(**how)
        got.set_default_timeout(PATIENCE_S * 1000)
        return got
    return made


@pytest.fixture(scope="session")
def browser():
    "A headless Chromium."
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not path: pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as pw:
        chromium = pw.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"], timeout=PATIENCE_S * 1000
        )
        for name in ("new_page", "new_context"): setattr(chromium, name, patient(getattr(chromium, name)))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def shots(tmp_path_factory):
    "Where browser tests leave their pictures: the folder that SHOTS names, or one of the session's."
    folder = Path(os.environ.get("SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def one_thread():
    "Have torch use one thread, as a worker does."
    import torch
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def reopened(tokenizer):
    "The tokenizer of transformers, from the files that ours saves."
    from transformers import WhisperTokenizer
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return WhisperTokenizer.from_pretrained(folder)


def tsv_rows(root, lang, split):
    "Rows of a transcript, as dicts."
    head, *body = (root / f"transcript/{lang}/{split}.tsv").read_bytes().decode().removesuffix("\n").split("\n")
    return [dict(zip(head.split("\t"), line.split("\t"))) for line in body]


def tar_clips(root, lang, split):
    "Clip -> bytes, of all tars of a split."
    out = {}
    for path in sorted((root / f"audio/{lang}/{split}").glob("*.tar")):
        with tarfile.open(path) as t: out |= {Path(m.name).stem: t.extractfile(m).read() for m in t if m.isfile()}
    return out


def readme_table(title):
    "Rows of the sample's README under a heading, as dicts."
    lines = (SAMPLE / "README.md").read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    head, _, *body = [[c.strip() for c in l.strip("|").split("|")] for l in lines if l.startswith("|")]
    return [dict(zip(head, r)) for r in body]


def write_corpus(root, splits):
    "Write an Italian corpus: split -> (clip, bytes, sentence) each."
    for split, clips in splits.items():
        tar, tsv = root / f"audio/it/{split}/it_{split}_0.tar", root / f"transcript/it/{split}.tsv"
        for p in (tar, tsv): p.parent.mkdir(parents=True, exist_ok=True)
        tsv.write_text(
            "client_id\tpath\tsentence\n"
            + "".join(f"s{i % 7}\t{c}.mp3\t{s}\n" for i, (c, _, s) in enumerate(clips)),
            encoding="utf-8",
        )
        with tarfile.open(tar, "w") as t:
            for clip, data, _ in clips:
                member = tarfile.TarInfo(f"it_{split}_0/{clip}.mp3")
                member.size = len(data)
                t.addfile(member, BytesIO(data))
    return root


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    "A cache of the test's own."
    monkeypatch.setenv("AUDIO_FT_PREP_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    close_files()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    "A stand-in Hub that serves tmp_path/served, and a home of the client's own; repositories are put into served/datasets."
    with StandinHub(tmp_path / "served", lfs_min_bytes=10_000) as hub:
        for k, v in hub.env(tmp_path / "home").items(): monkeypatch.setenv(k, v)
        yield hub
    close_files()


@pytest.fixture(scope="session")
def long_corpus(tmp_path_factory):
    "300 clips of train and 12 of test: the sample's Italian ones, good and bad, under new names."
    source = [(data, " ".join(["la", "frase", name[-2:]])) for name, data in tar_clips(SAMPLE, "it", "train").items()]
    repeat = lambda split, n: [(f"{split}_{i:03d}", *source[i % len(source)]) for i in range(n)]
    return write_corpus(tmp_path_factory.mktemp("long"), {"train": repeat("train", 300), "test": repeat("test", 12)})


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    "Prepare the sample for some settings, once in a session; the folder is everyone's, so nobody changes it."
    from audio_ft_prep import PrepConfig, prepare
    made = {}
    def get(language_code="it", **settings):
        key = (language_code, *sorted(settings.items()))
        if key not in made:
            cfg = PrepConfig(
                "sample",
                language_code,
                output_dir=str(tmp_path_factory.mktemp("prepared") / "out"),
                **{"num_workers": 1, **settings}
            )
            made[key] = prepare(cfg, progress=False)
        return made[key]
    return get


# A process that has imported everything forks once a run, so that a run starts at once. Each has a process group of its own.
_SERVER = """
import json, os, resource, signal, sys
from pathlib import Path
from audio_ft_prep import cli, pipeline
from audio_ft_prep.models import load_model
load_model("openai/whisper-small")
print("ready", flush=True)

def tell(place, name, value):
    (place / f".{name}").write_text(str(value))
    os.replace(place / f".{name}", place / name)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
for line in sys.stdin:
    if os.fork(): continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    place, args, limits, env = json.loads(line)
    place = Path(place)
    if pid := os.fork():
        tell(place, "pid", pid)
        tell(place, "exit", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    os.setsid()
    for fd, name, how in ((0, os.devnull, os.O_RDONLY), (1, place / "stdout", os.O_WRONLY | os.O_CREAT), (2, place / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
        os.dup2(os.open(name, how), fd)
    for name, most in limits.items(): resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))
    os.environ.update(env)
    sys.argv = ["audio-ft-prep", *args]
    cli.main()
"""


def until(found, seconds=600):
    "Wait until something is so, and give it; the limit is for what will never be."
    end = time.monotonic() + seconds
    while not (got := found()):
        assert time.monotonic() < end, f"nothing happened in {seconds} s"
        time.sleep(0.01)
    return got


class Run:
    "The command, running in a process group of its own."
    def __init__(self, place):
        self.place, self.over = place, False
        self.pid = int(until(lambda: (place / "pid").exists() and (place / "pid").read_text()))
    def alive(self): return not (self.place / "exit").exists()
    def signal(self, what):
        try: os.killpg(self.pid, what)
        except ProcessLookupError: pass
    def workers(self):
        import psutil
        try: return [p for p in psutil.Process(self.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        except psutil.Error: return []
    def wait(self, seconds=600):
        "Give exit code, stdout and stderr once it has ended."
        until(lambda: not self.alive(), seconds)
        self.gone()
        code, out, err = (
            (self.place / n).read_text(encoding="utf-8") if (self.place / n).exists() else ""
            for n in ("exit", "stdout", "stderr")
        )  # one that is killed at once has no output
        return SimpleNamespace(code=int(code), out=out, err=err)
    def gone(self):
        "Whether no process of the group is left."
        try: os.killpg(self.pid, 0)
        except ProcessLookupError: self.over = True
        return self.over


def halted(run):
    "Have a run stand still as it is; whether it does, and was not over before."
    import psutil
    run.signal(signal.SIGSTOP)
    def stands():
        try: return psutil.Process(run.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess: return False
    return until(lambda: "over" if not run.alive() else stands()) is True


def read_all(out):
    "Read every file that has its final name; give the time of each shard's file that is on record."
    import pyarrow as pa, pyarrow.parquet as pq
    for p in out.rglob("*"):
        if ".work" in p.parts: continue
        if p.suffix == ".arrow": pa.ipc.open_stream(p.read_bytes()).read_all()
        if p.suffix == ".parquet": pq.read_table(p)
        if p.suffix == ".json": json.loads(p.read_bytes())
    return written(out, [json.loads(p.read_bytes())["file"] for p in out.glob(".work/*-00*.json")])


def written(out, files): return {f: (out / f).stat().st_mtime_ns for f in files}


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    "Start the command with arguments; limits are those of the system by name, such as FSIZE, the bytes that a file may have."
    env = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )
    assert server.stdout.readline() == "ready\n"
    runs = []
    def go(*args, limits={}, env={}):
        place = tmp_path_factory.mktemp("run")
        server.stdin.write(json.dumps([str(place), [str(a) for a in args], limits, env]) + "\n")
        server.stdin.flush()
        runs.append(Run(place))
        return runs[-1]
    yield go
    for r in runs:
        if not r.over: r.signal(signal.SIGKILL)
    server.stdin.close()
    server.wait(120)


def flags(**settings):
    "Settings as flags of the command."
    return [x for k, v in settings.items() for x in (f"--{k.replace('_', '-')}", str(v))]


def sentence(err):
    "The one sentence that a command that failed ends with."
    lines = err.splitlines()
    assert (
        "Traceback" not in err
        and sum(l.startswith("audio-ft-prep: ") for l in lines) == 1
        and lines[-1].startswith("audio-ft-prep: ")
    ), err[-3000:]
    return lines[-1].removeprefix("audio-ft-prep: ")
