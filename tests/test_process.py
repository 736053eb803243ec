"The command holds in odd surroundings, and what it says only shows."
import json, os, shlex, subprocess, sys

import pytest

from conftest import COMMAND, flags

pytestmark = pytest.mark.long

CORPUS = dict(dataset_name="sample", language_code="it")
FEW = dict(max_train_samples=2, max_eval_samples=1, num_workers=1, storage="audio")


def shell(line, cwd=None, **env):
    "Run a line of shell."
    given = {**os.environ, "HF_HUB_OFFLINE": "1", **env}
    return subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        env={k: v for k, v in given.items() if v is not None},
        timeout=300,
    )


def prepare(out): return shlex.join([COMMAND, "prepare", *map(str, flags(**CORPUS, **FEW, output_dir=out))])


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "<&-", "<&- 1>&- 2>&-"])
def test_a_run_goes_on_where_streams_are_closed_and_no_file_gets_their_numbers(tmp_path, closed):
    got = shell(f"exec {prepare(tmp_path / 'out')} {closed}")
    assert got.returncode == 0 and (tmp_path / "out/prep.json").is_file()
    assert shell(f"{COMMAND} verify {tmp_path}/out").returncode == 0


@pytest.mark.light
@pytest.mark.parametrize("reader", ["true", "head -c 1", "head -1"])
@pytest.mark.parametrize("args", ["inspect sample --json", "prepare --help", "doctor"])
def test_a_reader_that_goes_away_is_no_fault(args, reader):
    got = shell(f"{COMMAND} {args} | {reader}")
    assert "Traceback" not in got.stderr and "Broken pipe" not in got.stderr and "Exception ignored" not in got.stderr


@pytest.mark.light
def test_a_disk_that_is_full_for_what_is_printed_is_a_fault():
    got = shell(f"{COMMAND} inspect sample --json > /dev/full")
    assert got.returncode == 1 and len(got.stderr.strip().splitlines()) == 1 and "No space left" in got.stderr


@pytest.mark.light
@pytest.mark.parametrize(
    "terminal",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_terminal_without_accents_is_written_to(terminal, as_json):
    got = shell(f"{COMMAND} inspect sample" + " --json" * as_json, **terminal)
    assert got.returncode == 0 and got.stderr == ""
    if as_json:
        assert json.loads(
            got.stdout.encode("utf-8", "replace")
            if "latin" not in str(terminal)
            else shell(f"{COMMAND} inspect sample --json").stdout
        )["languages"]["it"]


def test_a_working_folder_that_is_gone_leaves_whole_paths(tmp_path):
    gone = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && "
    assert shell(gone + prepare(tmp_path / "out")).returncode == 0
    got = shell(gone + prepare("out"))
    assert (
        got.returncode == 2
        and "output_dir must be a whole path, got out" in got.stderr
        and "Traceback" not in got.stderr
    )
    got = shell(f"{gone}{COMMAND} inspect corpus")
    assert got.returncode == 2 and "no corpus at corpus" in got.stderr


def test_a_user_that_the_system_does_not_know_prepares_without_a_home(tmp_path):
    unknown = ["unshare", "-U", "--map-user=54321"]
    if subprocess.run([*unknown, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces on this machine")
    got = shell(
        f"exec {shlex.join(unknown)} {prepare(tmp_path / 'out')}",
        cwd=tmp_path,
        HOME=None,
        XDG_CACHE_HOME=None,
        USER=None,
        LOGNAME=None,
        HF_HOME=None,
    )
    assert got.returncode == 0 and {p.name for p in tmp_path.iterdir()} == {"out"}


@pytest.mark.light
@pytest.mark.parametrize(
    "args",
    [
        "inspect ~nobody-here/c",
        "verify ~nobody-here/c",
        "upload ~nobody-here/c --project speech --artifact-name a",
        "plan --dataset-name sample --language-code it --model-id ~nobody-here/m",
        "plan --config ~nobody-here/run.yaml",
        "demo --output-dir ~nobody-here/o",
    ],
)
def test_a_home_folder_that_is_not_known_is_a_sentence(tmp_path, args):
    got = subprocess.run([COMMAND, *args.split()], capture_output=True, text=True, cwd=tmp_path)
    assert (
        got.returncode == 2
        and "nobody-here" in got.stderr
        and "home folder" in got.stderr
        and "Traceback" not in got.stderr
        and not [*tmp_path.iterdir()]
    )


@pytest.mark.light
def test_what_was_not_expected_is_a_sentence_and_its_traceback_is_there_when_asked_for(tmp_path):
    code = (
        "import sys; from audio_ft_prep import cli, load\ndef fail(*a): raise KeyError('Zq9secretZq9value"
        " \\x1b[2J')\nload.inspect_corpus = fail; sys.argv = ['audio-ft-prep', 'inspect', 'x']; cli.main()"
    )
    got = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_TOKEN": "Zq9secretZq9value", "AUDIO_FT_PREP_DEBUG": debug},
        )
        for debug in ("", "1")
    ]
    assert [g.returncode for g in got] == [1, 1] and all("Zq9" not in g.stderr and "\x1b" not in g.stderr for g in got)
    assert (
        len(got[0].stderr.splitlines()) == 1
        and "not expected: KeyError" in got[0].stderr
        and "AUDIO_FT_PREP_DEBUG=1" in got[0].stderr
        and "Traceback" in got[1].stderr
    )


@pytest.mark.light
@pytest.mark.parametrize(
    "error, says",
    [
        ("MemoryError()", "memory ran out"),
        ("RecursionError('deep')", "nested too deeply"),
        ("OSError(24, 'Too many open files', 'a.wav')", "ulimit -n 4096"),
        ("AssertionError()", "was not expected"),
        ("ZeroDivisionError('x')", "was not expected"),
    ],
)
def test_every_error_is_one_sentence(error, says):
    code = (
        f"import sys; from audio_ft_prep import cli, load\ndef fail(*a): raise {error}\nload.inspect_corpus = fail;"
        " sys.argv = ['audio-ft-prep', 'inspect', 'x']; cli.main()"
    )
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert got.returncode == 1 and says in got.stderr and len(got.stderr.splitlines()) == 1


@pytest.mark.light
@pytest.mark.parametrize("acting", ["\x1b[2J", "\x1b]0;owned\x07", "\x9b31m", "\u202egnp.exe", "\u2028", "\r\n"])
def test_a_sentence_that_would_act_on_the_terminal_is_shown(tmp_path, acting):
    corpus = tmp_path / "c"
    corpus.mkdir()
    import soundfile as sf
    sf.write(corpus / "a.wav", [0.0] * 16000, 16000)
    (corpus / "list.jsonl").write_text(
        json.dumps({"file_name": "a.wav", "text": f"ciao {acting} mondo"}) + "\n", encoding="utf-8"
    )
    for args in ("", "--json"):
        got = subprocess.run([COMMAND, "inspect", str(corpus), *args.split()], capture_output=True)
        shown = (got.stdout + got.stderr).decode()
        assert "ciao" in shown and not [c for c in shown if c != "\n" and not c.isprintable()]
