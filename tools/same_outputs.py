"""Take back what a run of the lessons changed in their saved outputs only because another processor computed them.

The last bit of a log-mel depends on the processor, so the hash of a data set does, too, and with it a pixel here and there. A notebook
that differs from the committed one in nothing else is put back as it was; all other changes stay, to be looked at.

Usage, from the project root, after nbdev-test --save and nbdev-clean: python tools/same_outputs.py
"""
import base64, io, json, re, subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HASH = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{64}|[0-9a-f]{16})(?![0-9a-f])")
MOST_LEVELS = 2.0  # by which the pixels of two pictures may differ, of 255, on average


def git(*args):
    "What git prints."
    return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, check=True).stdout


def changed():
    "Notebooks that differ from the committed ones."
    return [name for name in git("diff", "--name-only", "HEAD", "--", "nbs").decode().splitlines() if name.endswith(".ipynb")]


def pictures_of(nb):
    "The pictures of a notebook's outputs, which are taken out of it."
    for cell in nb["cells"]:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).pop("image/png", ""): yield "".join(png)


def alike(one, other):
    "Whether two pictures look the same."
    if one == other: return True
    import numpy as np
    from PIL import Image
    first, second = (np.asarray(Image.open(io.BytesIO(base64.b64decode(p))).convert("RGB"), float) for p in (one, other))
    return first.shape == second.shape and abs(first - second).mean() <= MOST_LEVELS


def same(before, after):
    "Whether two notebooks differ in hashes and pixels alone."
    before, after = json.loads(before), json.loads(after)
    first, second = list(pictures_of(before)), list(pictures_of(after))
    texts = [HASH.sub("0" * 16, json.dumps(nb)) for nb in (before, after)]
    return texts[0] == texts[1] and len(first) == len(second) and all(map(alike, first, second))


def main():
    back = [name for name in changed() if same(git("show", f"HEAD:{name}"), (ROOT / name).read_bytes())]
    if back: git("checkout", "HEAD", "--", *back)
    for name in back: print(f"{name}: only hashes or pixels differ, as another processor computes them: kept as committed")


if __name__ == "__main__": main()
