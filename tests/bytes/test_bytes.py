"""Jobs publish the bytes that the code of BASE published: moving code about changes nothing.

Both versions run here, one after the other, since another make of processor rounds differently.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BASE = "84ff5af3b2eed08292ee5ae01a2891202285b4d6"
ROOT = Path(__file__).parents[2]
_MAKE = Path(__file__).with_name("make.py")


def sums(code: Path, folder: Path) -> dict[str, str]:
    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(code)}
    done = subprocess.run(
        [sys.executable, str(_MAKE), str(folder)],
        cwd=code,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "sums.json").read_text())


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_object_is_what_it_was(tmp_path: Path) -> None:
    known = subprocess.run(["git", "cat-file", "-e", f"{BASE}^{{commit}}"], cwd=ROOT, capture_output=True, check=False)
    if known.returncode:
        pytest.skip(f"the history of this checkout does not hold {BASE}, whose outputs are compared")
    base = tmp_path / "base"
    base.mkdir()
    archive = subprocess.run(["git", "archive", BASE], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(base)], input=archive, check=True)
    # Both run in the same place, since a record names where it came from.
    place = tmp_path / "run"
    before = sums(base, place)
    place.rename(tmp_path / "before")
    now = sums(ROOT, place)
    kinds = {name.split("/")[0] for name in before}
    assert kinds == {"pix2pix", "cyclegan", "pack", "parquet", "folder", "augment"}
    assert now == before
