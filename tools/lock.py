"""Write requirements.lock: one version of every package that the checkout's tests need, for each Python that we support.

    python tools/lock.py             what settings.ini and constraints.txt ask for; versions that still fit stay
    python tools/lock.py --upgrade   the newest that fit
    python tools/lock.py --check     whether the lock still fits; nothing is written
"""
import argparse, re, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
HEAD = """# Every package that the tests need, made by `make lock` from settings.ini and constraints.txt, for Python 3.10 to 3.13.
# torch is installed first, by pip, which knows which build this machine has; what its CUDA build needs is left to it.
"""
OF_CUDA = re.compile(r"(nvidia-|cuda-|triton\b)")


def resolve(to, upgrade):
    "Have uv resolve for all Pythons and systems at once."
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal"]
    command += ["--python-version", "3.10", "--constraint", "constraints.txt", "--output-file", str(to)]
    command += ["--no-annotate", "--no-header", "--quiet", *["--upgrade"] * upgrade]
    if subprocess.run(command, cwd=ROOT).returncode: sys.exit("the requirements can't be had together: see above")


def locked(upgrade=False):
    "The text that the lock should have."
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "lock.txt"
        if LOCK.exists(): shutil.copy(LOCK, to)
        resolve(to, upgrade)
        lines = to.read_text(encoding="utf-8").splitlines()
    return HEAD + "".join(f"{line}\n" for line in lines if not OF_CUDA.match(line))


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    ask.add_argument("--check", action="store_true", help="only say whether the lock still fits")
    asked = ask.parse_args()
    text = locked(asked.upgrade)
    if not asked.check: LOCK.write_text(text, encoding="utf-8")
    elif text != LOCK.read_text(encoding="utf-8"):
        sys.exit("requirements.lock doesn't fit settings.ini: run make lock, and commit what it writes")
    print(f"requirements.lock: {text.count('==')} lines")


if __name__ == "__main__": main()
