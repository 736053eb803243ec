"Can every extra, every pair of them and all together be had from the package index, with no constraints, within a minute each? Run by hand: python tools/check_extras.py [--with pip|uv] [--limit 60] [EXTRA...]"
import argparse, subprocess, sys, time
from configparser import ConfigParser
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = ("dev",)  # has a lock of its own


def extras():
    "The extras that settings.ini names and users install."
    ini = ConfigParser(delimiters="=", interpolation=None)
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    named = [k.removesuffix("_requirements") for k in ini["DEFAULT"] if k.endswith("_requirements")]
    return [e for e in named if e not in OURS]


def choices(names):
    "None of them, each, each pair, all."
    return [(), *combinations(names, 1), *combinations(names, 2), tuple(names)]


def command(tool, chosen):
    "The command that resolves and installs nothing."
    if tool == "pip":
        return [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--quiet",
            f".[{','.join(chosen)}]",
        ]
    flags = [word for name in chosen for word in ("--extra", name)]
    return [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--no-cache",
        "pyproject.toml",
        *flags,
        "-o",
        "/dev/null",
    ]


def resolve(tool, chosen, limit_s):
    "Seconds that it took, and what went wrong."
    start = time.monotonic()
    try: ran = subprocess.run(command(tool, chosen), cwd=ROOT, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired: return limit_s, f"not within {limit_s:g} s"
    wrong = (ran.stderr.strip().splitlines() or ["no reason is given"])[-1] if ran.returncode else ""
    return time.monotonic() - start, wrong


def main():
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument(
        "--with", dest="tools", choices=["pip", "uv"], action="append", help="resolver; both when left out"
    )
    ask.add_argument("--limit", type=float, default=60, help="seconds that each may take")
    ask.add_argument("extras", nargs="*", help="extras to combine; all when left out")
    asked = ask.parse_args()
    failed = 0
    for tool in asked.tools or ["pip", "uv"]:
        for chosen in choices(asked.extras or extras()):
            took_s, wrong = resolve(tool, chosen, asked.limit)
            failed += bool(wrong)
            print(f"{tool:<4} {','.join(chosen) or 'core':<45} {took_s:6.1f} s  {wrong}", flush=True)
    if failed:
        sys.exit(
            f"{failed} choices can't be resolved: see which packages bound each other, and give settings.ini a floor"
        )


if __name__ == "__main__": main()
