"A run of the lessons keeps what another processor alone has changed, and nothing else."
import base64, importlib, io, sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.light
TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture(scope="module")
def same_outputs():
    sys.path.insert(0, str(TOOLS))
    try: yield importlib.import_module("same_outputs")
    finally: sys.path.remove(str(TOOLS))


def result(text): return {"output_type": "execute_result", "data": {"text/plain": [text]}}
def log(line): return {"output_type": "stream", "name": "stderr", "text": [line]}
def notebook(*outputs): return {"cells": [{"id": "a", "cell_type": "code", "outputs": list(outputs)}]}


def picture(level):
    "A grey picture, as a cell shows it."
    image = pytest.importorskip("PIL.Image").new("RGB", (40, 30), (level,) * 3)
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"output_type": "display_data", "data": {"image/png": base64.b64encode(file.getvalue()).decode()}}


@pytest.mark.parametrize(
    "before, after",
    [
        ([result("hash 08cc18866738890e in prepared")], [result("hash 91e51df2aab2a06f in prepared")]),
        ([result("takes under a minute with 2 workers")], [result("takes about 1 min with 2 workers")]),
        ([log("loaded")], [log("loaded"), log("loaded again")]),
        ([result("3 rows"), log("read")], [result("3 rows")]),
    ],
    ids=["another hash", "another time", "more log", "less log"],
)
def test_what_another_processor_or_log_changes_stays_as_committed(same_outputs, before, after):
    kept, count = same_outputs.kept(notebook(*before), notebook(*after))
    assert kept == notebook(*before) and count == 1


@pytest.mark.parametrize(
    "before, after",
    [
        ([result("3 rows, hash 08cc18866738890e")], [result("4 rows, hash 91e51df2aab2a06f")]),
        ([result("hash 08cc18866738890e")], [result("hash 08cc188")]),
        ([result("takes 2 to 4 min with 2 workers")], [result("takes 2 to 4 min with 3 workers")]),
        ([result("3 rows")], []),
        ([result("3 rows")], [result("3 rows"), result("3 rows")]),
    ],
    ids=["another number", "a shorter hash", "more workers", "nothing any more", "more than before"],
)
def test_what_a_lesson_shows_anew_is_kept(same_outputs, before, after):
    kept, count = same_outputs.kept(notebook(*before), notebook(*after))
    assert kept == notebook(*after) and count == 0


def test_a_picture_that_is_a_shade_off_is_the_same_and_another_one_is_not(same_outputs):
    assert same_outputs.alike(*(picture(level)["data"]["image/png"] for level in (100, 101)))
    assert not same_outputs.alike(*(picture(level)["data"]["image/png"] for level in (100, 110)))
    kept, count = same_outputs.kept(notebook(picture(100)), notebook(picture(101)))
    assert kept == notebook(picture(100)) and count == 1
