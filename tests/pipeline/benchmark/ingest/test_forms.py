"""What the benchmark of reading reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.benchmark.basis import inputs
from pipeline.benchmark.ingest import forms, packing
from pipeline.stores import open_store
from pipeline.stores.forms.registry import writable_form, writable_forms


@pytest.mark.parametrize("name", [form.name for form in writable_forms()])
def test_the_processes_together_decode_each_image_of_a_store_once(name: str, tmp_path: Path) -> None:
    url, count = str(tmp_path / name), 3 * forms._ROWS - 7
    forms.write_store(writable_form(name), url, inputs.pictures(2, 16), count)
    pieces = list(forms.in_pieces(open_store(url).ranges))
    assert sum(each.rows for piece in pieces for each in piece) == count
    assert [forms.ReadAndDecode(url, part, 2).prepare()() for part in range(2)] == [2 * forms._ROWS - 7, forms._ROWS]


def test_script_and_job_pack_the_same_images(tmp_path: Path) -> None:
    folder = str(tmp_path / "in")
    inputs.write_pictures(folder, 5, 16)
    written = sum(path.stat().st_size for path in Path(folder).iterdir())
    script = packing.Script(folder, str(tmp_path / "plain"), decodes=True).prepare()
    job = packing.Pack(folder, str(tmp_path / "packed")).prepare()
    assert [script(), script(), job(), job()] == [5] * 4
    assert (tmp_path / "plain/0").stat().st_size == written
