"""Take back what a run of the lessons changed in their saved outputs only because another processor computed them.

The last bit of a log-mel depends on the processor, so the hash of a data set does, too, and with it a pixel here and there; how long a
run takes depends on what else the machine does. An output that differs from the committed one in nothing else is put back as it was; all other changes stay, to be looked at.

Usage, from the project root, after nbdev-test --save and nbdev-clean: python tools/same_outputs.py
"""
import base64, io, json, re, subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HASH = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{16}|[0-9a-f]{12})(?![0-9a-f])")
TIME = re.compile(r"takes (?:under a minute|about \S+ (?:min|h)|\S+ to \S+ (?:min|h)) (?=with|on)")  # as a plan says it
MOST_LEVELS = 2.0  # by which the pixels of two pictures may differ, of 255, on average


def git(*args):
    "What git prints."
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, check=True).stdout


def changed():
    "Notebooks that differ from the committed ones; new and renamed ones have nothing to compare with."
    return [
        name
        for name in git("diff", "--name-only", "--diff-filter=M", "HEAD", "--", "nbs").decode().splitlines()
        if name.endswith(".ipynb")
    ]


def alike(one, other):
    "Whether two pictures look the same."
    if one == other or not one: return one == other
    import numpy as np
    from PIL import Image
    first, second = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(p))).convert("RGB"), float) for p in (one, other)
    )
    return first.shape == second.shape and abs(first - second).mean() <= MOST_LEVELS


def masked(text):
    "A text without its hashes, and without how long a plan thinks that a run takes."
    return TIME.sub("takes a while ", HASH.sub("0", text))


def same(before, after):
    "Whether two outputs of a cell differ in hashes, forecast times and pixels alone."
    pictures = ["".join(o.get("data", {}).get("image/png", "")) for o in (before, after)]
    texts = [
        json.dumps({**o, "data": {k: v for k, v in o.get("data", {}).items() if k != "image/png"}})
        for o in (before, after)
    ]
    return (
        masked(texts[0]) == masked(texts[1])
        and bool(pictures[0]) == bool(pictures[1])
        and alike(*pictures)
    )


def shown(outputs):
    "The outputs of a cell but for its log, of which more or less is shown by what ran before in the same process."
    return [o for o in outputs if o.get("name") != "stderr"]


def kept(before, after):
    "A notebook as it ran, with the committed outputs of cells that show the same; how many cells those are."
    old = {cell["id"]: cell.get("outputs", []) for cell in before["cells"]}
    count = 0
    for cell in after["cells"]:
        committed, new = old.get(cell["id"], []), cell.get("outputs", [])
        pairs = list(zip(shown(committed), shown(new)))
        if committed == new or not len(pairs) == len(shown(committed)) == len(shown(new)): continue
        if all(one == other or same(one, other) for one, other in pairs): cell["outputs"], count = committed, count + 1
    return after, count


def main():
    for name in changed():
        nb, count = kept(json.loads(git("show", f"HEAD:{name}")), json.loads((ROOT / name).read_text(encoding="utf-8")))
        if not count: continue
        (ROOT / name).write_text(json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{name}: {count} cells differ in hashes, pixels or log lines alone, and stay as committed")


if __name__ == "__main__": main()
