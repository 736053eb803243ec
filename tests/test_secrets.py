"No secret in words: tokens and passwords of variables, files and addresses, in every form they take, on every way out."
import base64, html, http.server, json, logging, os, pickle, subprocess, sys, threading, time, urllib.parse
from pathlib import Path

import pytest

from audio_ft_prep.secrets import (
    OneLine, clean_error, is_secret, logger_of, no_secrets_raised, small_file, without_secrets
)
from conftest import COMMAND, flags

pytestmark = pytest.mark.light
VALUES = {
    "plain": "Zq9secretZq9value",
    "with a line break at its end": "Zq9secretZq9value\n",
    "with signs of addresses": "wJalr/XUtn+FEMI=K7&MD?EN",
    "with quotes": "it's \"quoted\" \\ here",
    "of two lines": "first-line-of-it\nsecond-line-of-it",
    "with letters of elsewhere": "pässwörd-città",
    "short": "hunt3r",
    "with a tab": "tab\tbed-secret",
    "with a percent": "100%sure-thing",
}
NAMES = [
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "DHCORE_ACCESS_TOKEN",
    "DHCORE_REFRESH_TOKEN",
    "DHCORE_PASSWORD",
    "DHCORE_CLIENT_SECRET",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "MDC_API_KEY",
]
FORMS = {
    "as it is": lambda v: v,
    "stripped": str.strip,
    "as Python writes it": repr,
    "bytes": lambda v: repr(v.encode()),
    "in an address": lambda v: urllib.parse.quote(v),
    "all of it quoted": lambda v: urllib.parse.quote(v, safe=""),
    "in small letters": (
        lambda v: urllib.parse.quote(v, safe="")
        .replace("%2F", "%2f")
        .replace("%0A", "%0a")
        .replace("%3D", "%3d")
        .replace("%2B", "%2b")
    ),
    "in a form": urllib.parse.quote_plus,
    "JSON": json.dumps,
    "JSON of all letters": lambda v: json.dumps(v, ensure_ascii=False),
    "HTML": html.escape,
    "on one line": lambda v: " ".join(v.split()),
    "Basic": lambda v: base64.b64encode(f"anna:{v}".encode()).decode(),
    "Basic of another": lambda v: base64.b64encode(f"bo:{v}".encode()).decode(),
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 for addresses": lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
    "its lines": lambda v: "\n> ".join(v.splitlines()),
}


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    "No secret of this machine's own."
    for name in [n for n in os.environ if is_secret(n) or n.lower().endswith("_proxy")]: monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_TOKEN_PATH", "HF_HOME", "DH_CONFIG", "XDG_CACHE_HOME", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)


def left_of(value, text):
    "What of a secret can still be read: any form of it or of one of its lines."
    pieces = {value.strip(), *map(str.strip, value.splitlines())}
    return [name for name, form in FORMS.items() for p in pieces if form(p) in text]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_secret_is_taken_out_in_every_form(monkeypatch, value, form):
    monkeypatch.setenv("DHCORE_ACCESS_TOKEN", value)
    said = without_secrets(f"401 for {FORMS[form](value)}; try again")
    assert not left_of(value, said) and said.startswith("401 for ") and said.endswith("; try again") and "***" in said


@pytest.mark.parametrize("name", NAMES)
def test_the_values_of_these_variables_are_secret(monkeypatch, name):
    monkeypatch.setenv(name, "Zq9secretZq9value")
    assert without_secrets({"a": ["x Zq9secretZq9value"], "Zq9secretZq9value": 1}) == {"a": ["x ***"], "***": 1}


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN_PATH",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "TOKENIZERS_PARALLELISM",
        "MAX_TOKENS",
        "RAY_AUTH_MODE",
        "DHCORE_USER",
        "DHCORE_CLIENT_ID",
        "AWS_REGION",
    ],
)
def test_the_values_of_those_variables_are_not(monkeypatch, name):
    monkeypatch.setenv(name, "/data/tokens")
    assert without_secrets("it is in /data/tokens") == "it is in /data/tokens"


@pytest.mark.parametrize("value", ["", " ", "\n", "a", "train", "0", "True"])
def test_what_is_too_short_to_be_told_from_words_is_not_looked_for(monkeypatch, value):
    monkeypatch.setenv("HF_TOKEN", value)
    assert without_secrets("a train of 10 clips: True") == "a train of 10 clips: True"


FILES = {
    ".cache/huggingface/token": "Zq9secretZq9value\n",
    ".cache/huggingface/stored_tokens": "[mine]\nhf_token = Zq9secretZq9value\n",
    ".dhcore.ini": "[DEFAULT]\ncurrent_environment = a\n[a]\ndhcore_access_token = Zq9secretZq9value\n",
    ".aws/credentials": "[default]\naws_access_key_id = someone\naws_secret_access_key=Zq9secretZq9value\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_token_that_was_saved_by_a_login_is_secret(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FILES[name])
    assert without_secrets("with Zq9secretZq9value") == "with ***"


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "nothing", "no UTF-8"])
def test_a_file_of_tokens_that_is_none_is_passed_over_at_once(tmp_path, kind):
    path = tmp_path / ".cache/huggingface/token"
    path.parent.mkdir(parents=True)
    {
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
        "nothing": lambda: None,
        "no UTF-8": lambda: path.write_bytes(b"\xff\xfe"),
    }[kind]()
    assert without_secrets("nothing to see") == "nothing to see" and len(small_file(path)) <= 1 << 16


PROXIES = {
    "http://anna:pa55word@proxy:3128": "pa55word",
    "http://anna:p%40ss%2Fword@proxy": "p@ss/word",
    "anna:pa55word@proxy:3128": "pa55word",
    "http://anna:p@55w0rd@proxy": "p@55w0rd",
    "socks5h://Zq9secretZq9value@proxy": "Zq9secretZq9value",
    "http://a:pa/55word@proxy": "pa/55word",
}


@pytest.mark.parametrize("address", PROXIES)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy"])
def test_the_password_of_a_proxy_is_secret_wherever_it_turns_up(monkeypatch, name, address):
    monkeypatch.setenv(name, address)
    password = PROXIES[address]
    told = [
        f"cannot connect to {address}",
        f"password {password!r} refused",
        f"Proxy-Authorization: Basic {base64.b64encode(f'anna:{password}'.encode()).decode()}",
        urllib.parse.quote(password, safe=""),
    ]
    assert not [t for t in without_secrets(told) if left_of(password, t)]


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "DHCORE_ENDPOINT", "AWS_ENDPOINT_URL", "PIP_INDEX_URL"])
def test_the_password_of_an_endpoint_is_secret(monkeypatch, name):
    monkeypatch.setenv(name, "https://anna:pa55word@hub.example.org/a")
    assert (
        without_secrets("GET https://anna:pa55word@hub.example.org/a/b: pa55word is wrong")
        == "GET https://***@hub.example.org/a/b: *** is wrong"
    )


KNOWN_BY_PLACE = {
    "https://a.org/x?X-Amz-Credential=AKIA%2F2026&X-Amz-Signature=ab12&part=1": (
        "https://a.org/x?X-Amz-Credential=***&X-Amz-Signature=***&part=1"
    ),
    "s3://key:secret@bucket/p": "s3://***@bucket/p",
    "?access_token=ab12": "?access_token=***",
    "Authorization: Bearer ab12.cd": "Authorization: Bearer ***",
    "{'Authorization': 'Basic dTpw'}": "{'Authorization': 'Basic ***'}",
    '{"password": "p"}': '{"password": "***"}',
    "Client(password='p', user='u')": "Client(password='***', user='u')",
    "aws_secret_access_key=ab12": "aws_secret_access_key=***",
    "hf_abcdefghijklmnopqrstuv": "***",
    "key AKIAIOSFODNN7EXAMPLE": "key ***",
    "b'Bearer ab12\\n'": "b'Bearer ***\\n'",
    "https://tok3n@host/x": "https://***@host/x",
    "http://u:p@ss@host/": "http://***@host/",
}


@pytest.mark.parametrize("said", KNOWN_BY_PLACE)
def test_a_secret_is_known_by_its_place(said): assert without_secrets(said) == KNOWN_BY_PLACE[said]


@pytest.mark.parametrize(
    "said",
    [
        "anna@example.org",
        "http://localhost:8080/a@b",
        "https://a.org/x?part=1#key",
        "HF_TOKEN: yes",
        "Basic authentication is required",
        "the bearer of bad news",
        "s3://bucket/a@b",
        "a token: none",
        "c'è un treno: 10:30@Roma",
        "tokens=448",
        "the password is wrong",
        "data/train-00000.arrow",
        "hash 0f3a2b9c8d7e6f50",
    ],
)
def test_what_only_resembles_a_secret_stays(said): assert without_secrets(said) == said


@pytest.mark.parametrize(
    "text",
    [
        "a://b:c" * 40_000,
        "a.b-" * 60_000,
        "eyJabcdefgh." * 25_000,
        "https://" + "a" * 300_000,
        "password" * 40_000,
        "x" * 300_000,
        "Authorization: " * 20_000,
    ],
)
def test_a_long_text_is_gone_through_soon(monkeypatch, text):
    monkeypatch.setenv("HF_TOKEN", "Zq9secretZq9value")
    began = time.monotonic()
    without_secrets(text)
    assert time.monotonic() - began < 30


def test_json_that_was_cleaned_is_json(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", 'quo"te\\d-secret')
    for value in (
        {"seen": 'quo"te\\d-secret'},
        {"password": 'a"b'},
        {"seen": 'password="abc"'},
        {"url": 'http://u:p"q@h/'},
    ):
        assert 'quo"te' not in json.dumps(json.loads(without_secrets(json.dumps(value))))


# Ways out

def test_a_log_tells_no_secret_in_message_values_traceback_or_for_any_handler(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "Zq9secretZq9value")
    log = logger_of("audio_ft_prep.test_secrets")
    try: raise ValueError("Zq9secretZq9value is refused") from OSError("by Zq9secretZq9value")
    except ValueError: log.exception("sent %s to %r", "Zq9secretZq9value", {"a": "Zq9secretZq9value"}, stack_info=True)
    log.warning("%d of %s", "Zq9secretZq9value")   # a message that can't be made
    log.warning("plain %s", "clip")
    assert (
        "Zq9" not in caplog.text + repr([vars(r) for r in caplog.records])
        and "ValueError: *** is refused" in caplog.text
        and "plain clip" in caplog.text
    )


def test_a_record_is_one_line_and_only_shows():
    record = logging.makeLogRecord({"msg": "row %s", "args": ("a\nERROR forged\x1b[2J\u202e",)})
    assert OneLine("%(message)s").format(record) == r"row a\nERROR forged\x1b[2J\u202e"


@pytest.mark.parametrize(
    "make",
    [
        lambda s: ValueError(s),
        lambda s: FileNotFoundError(2, "No such file", s),
        lambda s: RuntimeError("x", {"token": s}),
        lambda s: KeyError(s),
        lambda s: OSError(f"at https://u:{s}@h"),
    ],
    ids=["ValueError", "a file's name", "its arguments", "KeyError", "an address"],
)
@pytest.mark.parametrize("where", ["itself", "its cause", "its context", "a note"])
def test_an_error_that_tells_a_secret_is_replaced_by_one_of_its_kind(monkeypatch, make, where):
    monkeypatch.setenv("HF_TOKEN", "Zq9secretZq9value")
    bad = make("Zq9secretZq9value")
    def go():
        if where == "itself": raise bad
        if where == "its cause": raise ValueError("it failed") from bad
        if where == "a note":
            e = ValueError("it failed")
            e.__notes__ = ["Zq9secretZq9value"]
            raise e
        try: raise bad
        except Exception: raise ValueError("it failed")
    with pytest.raises(Exception) as told:
        with no_secrets_raised(): go()
    import traceback
    assert "Zq9" not in "".join(traceback.format_exception(told.value)) + repr(told.value.args)
    if where != "itself": assert type(told.value) is ValueError and str(told.value) == "it failed"


def test_an_error_that_tells_none_is_passed_on_as_it_is():
    e = KeyError("clip")
    assert clean_error(e) is e
    with pytest.raises(KeyError) as told:
        with no_secrets_raised(): raise e
    assert told.value is e


class Refusing(http.server.BaseHTTPRequestHandler):
    "A platform that answers as one, and refuses whoever asks, quoting what it was sent."
    def do_GET(self):
        known = "well-known" in self.path
        said = (
            b"{}"
            if known
            else json.dumps({"message": f"refused {self.headers.get('Authorization')} for {self.path}"}).encode()
        )
        self.send_response(200 if known else 401)
        self.send_header("X-Api-Level", "15")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(said)
    do_HEAD = do_POST = do_PUT = do_GET
    def log_message(self, *_): pass


@pytest.fixture(scope="module")
def refusing():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


SECRET = "Zq9secretZq9value"
SETTINGS = {  # what the environment says; URL stands for the platform's address
    "a token with a line break": {"DHCORE_ACCESS_TOKEN": f"{SECRET}\n"},
    "a token in the middle of a line": {"DHCORE_ACCESS_TOKEN": f"a\r\n{SECRET}"},
    "a token that is refused": {"DHCORE_ACCESS_TOKEN": SECRET},
    "user and password": {"DHCORE_USER": "anna", "DHCORE_PASSWORD": f"{SECRET}/+="},
    "a token of the store with a line break": {
        "DHCORE_USER": "u",
        "DHCORE_PASSWORD": "p",
        "DHCORE_DEFAULT_FILES_STORE": "s3://b",
        "AWS_ACCESS_KEY_ID": "AK",
        "AWS_SECRET_ACCESS_KEY": "x" * 20,
        "AWS_SESSION_TOKEN": f"{SECRET}\n",
    },
    "an endpoint with a password": {"DHCORE_ENDPOINT": f"http://anna:{SECRET}@127.0.0.1:9"},
    "a proxy with a password": {
        "HTTP_PROXY": f"http://anna:{SECRET}@127.0.0.1:9",
        "NO_PROXY": "",
        "no_proxy": "",
        "DHCORE_ACCESS_TOKEN": "t",
    },
    "a Hub with a password": {"HF_ENDPOINT": f"http://anna:{SECRET}@127.0.0.1:9", "HF_HUB_OFFLINE": "0"},
    "a token of the Hub that cannot be sent": {
        "HF_TOKEN": f"{SECRET}\n\n{SECRET}2",
        "HF_ENDPOINT": "URL",
        "HF_HUB_OFFLINE": "0",
    },
    "a key of the collective that is refused": {"MDC_API_KEY": SECRET, "MDC_API_URL": "URL"},
}
JOB = """import sys
from audio_ft_prep.platform import preprocess_dataset
try: preprocess_dataset("speech", "a", "openai/whisper-tiny", sys.argv[1])
except BaseException as e:
    import traceback
    traceback.print_exc()"""
WAYS = {
    "upload": lambda folder: [COMMAND, "upload", folder, "--project", "speech", "--artifact-name", "a"],
    "doctor": lambda folder: [COMMAND, "doctor"],
    "doctor as JSON": lambda folder: [COMMAND, "doctor", "--json"],
    "a job's log": lambda folder: [sys.executable, "-c", JOB, "sample"],
    "inspect of the Hub": lambda folder: [COMMAND, "inspect", "anna/corpus", "--json"],
    "a download": lambda folder: [COMMAND, "plan", "--dataset-name", "mdc:abc", "--language-code", "it"],
    "plan with a traceback": lambda folder: [
        COMMAND,
        "plan",
        "--dataset-name",
        "anna/corpus",
        "--language-code",
        "it",
        "--model-id",
        "anna/model",
    ],
}
PAIRS = [
    (s, w)
    for s in SETTINGS
    for w in WAYS
    if not ("Hub" in w or "plan" in w) or "Hub" in s
    if w != "a download" or "collective" in s
]


@pytest.mark.long
@pytest.mark.parametrize("settings, way", PAIRS)
def test_no_secret_leaves_by_any_way_with_the_real_clients(prepared, refusing, tmp_path, settings, way):
    pytest.importorskip("torch", reason="torch is not installed")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DHCORE_", "AWS_", "DH_", "HF_"))}
    given = {k: refusing if v == "URL" else v for k, v in SETTINGS[settings].items()}
    env = {
        **kept,
        "HOME": str(tmp_path),
        "DH_CONFIG": str(tmp_path / "ini"),
        "DHCORE_ENDPOINT": refusing,
        "AWS_ENDPOINT_URL": refusing,
        "NO_PROXY": "127.0.0.1",
        "RUN_ID": "r1",
        "HF_HUB_OFFLINE": "1",
        "AUDIO_FT_PREP_DEBUG": "1",
        **given,
    }
    got = subprocess.run(
        WAYS[way](str(prepared("it", max_train_samples=4).folder)),
        capture_output=True,
        text=True,
        errors="replace",
        env=env,
        cwd=tmp_path,
        timeout=300,
    )
    said = got.stdout + got.stderr
    assert said and not left_of(SECRET, said), [l for l in said.splitlines() if left_of(SECRET, l)]
