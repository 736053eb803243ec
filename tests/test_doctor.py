"""`doctor` tells what is wrong with this machine and with the platform's settings, one row and one remedy each, and no secret."""
import json, os, socketserver, subprocess, sys, threading
from pathlib import Path

import pytest

from audio_ft_prep.doctor import check_platform, looked_at, sdk_against_core
from conftest import COMMAND, sentence

SECRET = "s3cret-of-the-test"


@pytest.fixture
def env(tmp_path):
    "An environment without any of the platform's or the Hub's settings."
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DHCORE_", "AWS_", "DH_", "HF_"))}
    return {**kept, "HOME": str(tmp_path), "DH_CONFIG": str(tmp_path / "dhcore.ini")}


def doctor(env, *args):
    got = subprocess.run([COMMAND, "doctor", "--json", *args], capture_output=True, text=True, env=env, timeout=600)
    assert SECRET not in got.stdout + got.stderr
    return got.returncode, {c["name"]: c for c in json.loads(got.stdout)}, got.stderr


def test_without_a_platform_nothing_fails_and_every_row_that_isnt_ok_has_a_remedy(env):
    code, rows, said = doctor(env)
    assert (code, said) == (0, "")
    assert {"Python", "packages", "disk", "HF_TOKEN", "HF_HOME", "platform endpoint", "platform SDK"} == rows.keys()
    assert (
        rows["platform endpoint"]["state"] == rows["HF_TOKEN"]["state"] == "off"
        and "DHCORE_ENDPOINT" in rows["platform endpoint"]["fix"]
    )
    assert all(c["fix"] for c in rows.values() if c["state"] != "ok")


def test_a_person_reads_the_same_rows_and_remedies(env):
    got = subprocess.run(
        [COMMAND, "doctor"], capture_output=True, text=True, env={**env, "HF_HOME": "data/hf"}, timeout=600
    )
    assert got.returncode == 1 and "1 of 7 checks failed: HF_HOME" in sentence(got.stderr)
    lines = got.stdout.splitlines()
    at = next(i for i, l in enumerate(lines) if l.split()[:2] == ["fail", "HF_HOME"])
    assert "HF_HOME must be an absolute path, got data/hf: put a / before it" in lines[at + 1]


@pytest.mark.light
def test_a_token_is_seen_and_never_shown(env):
    assert doctor({**env, "HF_TOKEN": SECRET})[1]["HF_TOKEN"]["seen"] == "yes, in the environment"
    stored = Path(env["HOME"]) / ".cache/huggingface/token"
    stored.parent.mkdir(parents=True)
    stored.write_text(SECRET)
    assert doctor(env)[1]["HF_TOKEN"]["seen"] == "yes, stored by hf auth login"


@pytest.mark.light
def test_an_endpoint_that_doesnt_answer_is_a_fault(env):
    code, rows, said = doctor({**env, "DHCORE_ENDPOINT": "http://127.0.0.1:9"})
    assert (
        code == 1
        and rows["platform endpoint"]["state"] == "fail"
        and "can be reached" in rows["platform endpoint"]["fix"]
    )


def answer(body, length=None):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body) if length is None else length, body)


@pytest.fixture
def answered(monkeypatch):
    "Have the platform's endpoint answer in bytes that are given, time and again, and look at it."
    for k in [k for k in os.environ if k.startswith(("DHCORE_", "AWS_"))]: monkeypatch.delenv(k)
    monkeypatch.setenv("DH_CONFIG", os.devnull)
    server = socketserver.TCPServer(("127.0.0.1", 0), None)
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(server.said)
    server.RequestHandlerClass = Handler
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    def look(said, **env):
        server.said = said
        for k, v in {"DHCORE_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}", **env}.items():
            monkeypatch.setenv(k, v)
        return {c.name: c for c in check_platform()}
    yield look
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "said, why",
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0"),
        (answer(b"[]"), "it names no dhcore_api_level"),
        (answer(b'{"dhcore_api_level": null}'), "it names no dhcore_api_level"),
        (answer(b'{"dhcore_api_level": "x"}'), "invalid literal"),
        (answer(b"{}", 99), "IncompleteRead"),
        (answer(b"<html>"), "Expecting value"),
        (b"", "closed connection"),
    ],
)
def test_what_doesnt_answer_as_a_core_does_is_a_row_and_no_traceback(answered, said, why):
    row = answered(said)["platform endpoint"]
    assert row.state == "fail" and why in row.seen and "\n" not in row.seen and row.fix


@pytest.mark.parametrize("url", ["http://core example:8080", "core.example:8080", "http://[bad"])
def test_an_endpoint_that_is_no_address_is_a_row_and_no_traceback(answered, url):
    row = answered(b"", DHCORE_ENDPOINT=url)["platform endpoint"]
    assert row.state == "fail" and url in row.seen


def test_a_token_that_cannot_be_sent_is_a_row_and_isnt_shown(answered):
    row = answered(answer(b'{"dhcore_api_level": 15}'), DHCORE_ACCESS_TOKEN=f"{SECRET}\nmore")["platform credentials"]
    assert row.state == "fail" and "a character that can't be sent" in row.seen and SECRET not in row.seen + row.fix


@pytest.mark.parametrize(
    "sdk, state", [("0.16rc1", "fail"), ("0.15.0.dev1", "ok"), ("0.15", "ok"), ("0.14.0b2", "warn"), ("1", "warn")]
)
def test_every_version_of_the_sdk_is_held_against_the_core(sdk, state): assert sdk_against_core(sdk, 15).state == state


@pytest.fixture(scope="module")
def core():
    pytest.importorskip("digitalhub", reason="needs the extra platform")
    pytest.importorskip("moto", reason="needs moto's S3")
    from standin import platform
    with platform("moto") as c: yield c


CHANGED = {  # what is changed in the environment, which row tells, its state, and what it says
    "nothing": ({}, "platform store", "ok", "s3://datalake"),
    "a wrong password": (
        {"DHCORE_PASSWORD": SECRET},
        "platform credentials",
        "fail",
        "user and password, refused (401)",
    ),
    "no credentials": ({"DHCORE_USER": "", "DHCORE_PASSWORD": ""}, "platform credentials", "fail", "none"),
    "an old token": (
        {"DHCORE_ACCESS_TOKEN": SECRET},
        "platform credentials",
        "fail",
        "an access token, refused (401)",
    ),
    "a personal token": (
        {"DHCORE_PERSONAL_ACCESS_TOKEN": SECRET},
        "platform credentials",
        "ok",
        "a personal access token",
    ),
    "no store": ({"DHCORE_DEFAULT_FILES_STORE": ""}, "platform store", "fail", "not set"),
    "a folder for a store": ({"DHCORE_DEFAULT_FILES_STORE": "/data"}, "platform store", "fail", "/data"),
    "a bucket that isn't there": (
        {"DHCORE_DEFAULT_FILES_STORE": "s3://nowhere"},
        "platform store",
        "fail",
        "s3://nowhere",
    ),
    "no keys": ({"AWS_ACCESS_KEY_ID": ""}, "platform store", "warn", "no keys yet"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_is_wrong_with_the_platforms_settings_has_a_row_and_a_remedy(core, env, what):
    changed, name, state, seen = CHANGED[what]
    code, rows, _ = doctor({**env, **core.env(), **changed})
    assert rows[name]["state"] == state and seen in rows[name]["seen"] and (state == "ok" or rows[name]["fix"])
    assert (
        code == (state == "fail")
        and rows["platform SDK"]["state"] == "ok"
        and rows["platform endpoint"]["state"] == "ok"
    )


def test_what_a_login_wrote_is_read_and_a_stale_file_that_beats_the_environment_is_named(core, env):
    ini = Path(env["DH_CONFIG"])
    section = "".join(f"{k.lower()} = {v}\n" for k, v in core.env().items())
    ini.write_text(f"[DEFAULT]\ncurrent_environment = work\n\n[work]\n{section}")
    assert doctor(env)[0] == 0
    ini.write_text(f"[DEFAULT]\ncurrent_environment = work\n\n[work]\ndhcore_access_token = {SECRET}\n")
    code, rows, _ = doctor({**env, **core.env()})
    assert code == 1 and "dhcore.ini goes before the environment" in rows["platform credentials"]["fix"]


BLOCK = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("digitalhub", "boto3", "digitalhub_runtime_python", "hera"): raise ImportError(f"no module named {name}")
sys.meta_path.insert(0, Refuse())
import audio_ft_prep, audio_ft_prep.cli, audio_ft_prep.platform
try: audio_ft_prep.platform.preprocess_dataset("p-1", "a", "openai/whisper-small", "sample")
except ImportError as e: print(e)
"""


def test_without_the_sdk_everything_is_imported_and_the_first_use_names_the_extra(env):
    got = subprocess.run([sys.executable, "-c", BLOCK], capture_output=True, text=True, env=env, timeout=600)
    assert got.returncode == 0, got.stderr
    assert "pip install 'audio_ft_prep[platform]'" in got.stdout and "Traceback" not in got.stderr


def test_nothing_that_is_needed_anyway_moves_the_platforms_sdk(env):
    "Installing the package in a job must leave the job's SDK alone: nobody in the tree of requirements asks for it."
    from importlib.metadata import PackageNotFoundError, requires
    from packaging.requirements import Requirement
    seen, todo = set(), ["audio_ft_prep"]
    while todo:
        if (name := todo.pop()) in seen: continue
        seen.add(name)
        try: needed = [Requirement(r) for r in requires(name) or []]
        except PackageNotFoundError: continue
        todo += [r.name for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
    assert {"torch", "datasets"} <= seen and not {"digitalhub", "boto3", "botocore"} & seen


@pytest.mark.light
@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\nX-Api-Level: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (2 << 20),
        b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\n\r\n",
        b"\x00" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["deep", "digits", "endless", "elsewhere", "noise", "chunks"],
)
def test_an_odd_answer_of_the_platform_is_a_row(answered, said):
    assert answered(said)["platform endpoint"].state == "fail"


@pytest.mark.light
def test_credentials_are_not_sent_on_to_where_an_endpoint_points(env):
    seen = []
    class Elsewhere(socketserver.BaseRequestHandler):
        def handle(self): seen.append(self.request.recv(65536))
    class Core(socketserver.BaseRequestHandler):
        def handle(self):
            asked = self.request.recv(65536)
            moved = (
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n"
                % elsewhere.server_address[1]
            )
            self.request.sendall(
                moved
                if b"/api/auth" in asked
                else b"HTTP/1.1 200 OK\r\nX-Api-Level: 15\r\nContent-Length: 2\r\n\r\n{}"
            )
    with socketserver.TCPServer(("127.0.0.1", 0), Elsewhere) as elsewhere, socketserver.TCPServer(
        ("127.0.0.1", 0), Core
    ) as core:
        for server in (elsewhere, core):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        rows = doctor(
            {**env, "DHCORE_ENDPOINT": f"http://127.0.0.1:{core.server_address[1]}", "DHCORE_ACCESS_TOKEN": SECRET}
        )[1]
        for server in (elsewhere, core): server.shutdown()
    assert rows["platform credentials"]["state"] == "fail" and not seen


@pytest.mark.light
@pytest.mark.parametrize(
    "endpoint",
    [
        "file:///etc/hostname",
        "ftp://127.0.0.1/",
        "http://",
        "http://[::1",
        "http://a\x7fb/",
        "http://" + "a" * 300 + "/",
        "nonsense",
        "http://127.0.0.1:99999/",
    ],
)
def test_an_endpoint_that_is_none_is_a_row(env, endpoint):
    code, rows, said = doctor({**env, "DHCORE_ENDPOINT": endpoint})
    assert code == 1 and rows["platform endpoint"]["state"] == "fail" and "platform endpoint" in sentence(said)


@pytest.mark.light
@pytest.mark.parametrize("what", ["fifo", "folder", "noise", "large"])
def test_a_file_of_the_platform_that_is_none_is_passed_over(env, tmp_path, what):
    pytest.importorskip("torch", reason="torch is not installed")
    path = Path(env["DH_CONFIG"])
    {
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "noise": lambda: path.write_bytes(os.urandom(1000)),
        "large": lambda: path.write_bytes(b"[a]\n" * 10**6),
    }[what]()
    assert doctor(env)[0] == 0


@pytest.mark.light
@pytest.mark.parametrize("what", ["fifo", "file", "~nobody-here/hf", "long"])
def test_an_hf_home_that_is_no_folder_is_a_row(env, tmp_path, what):
    path = {"~nobody-here/hf": what, "long": "/" + "x" * 5000}.get(what) or str(tmp_path / what)
    if what == "fifo": os.mkfifo(path)
    if what == "file": Path(path).write_text("")
    code, rows, said = doctor({**env, "HF_HOME": path})
    assert code == 1 and rows["HF_HOME"]["state"] == "fail" and rows["HF_HOME"]["fix"] and "HF_HOME" in sentence(said)


@pytest.mark.light
def test_a_check_that_hangs_or_fails_is_a_row():
    def broken(): raise KeyError("torch")
    (hung,), (failed,) = looked_at("disk", threading.Event().wait, 0.05), looked_at("packages", broken)
    assert (
        (hung.name, hung.state, failed.state) == ("disk", "fail", "fail")
        and "no answer within" in hung.seen
        and "KeyError" in failed.seen
    )
