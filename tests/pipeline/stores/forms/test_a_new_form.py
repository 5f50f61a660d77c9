"""New form of a store: a class and an entry of one table suffice to read it, to write it and to verify it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest

from jobs import pack, verify
from pipeline import storage
from pipeline.engine.publishing.commit import Sink
from pipeline.pack import job
from pipeline.stores.forms import FormName, registry
from pipeline.stores.forms.form import WritableForm
from pipeline.stores.tables.ranges import Pieces
from pipeline.stores.tables.schema import SHARD, Store, require_unchanged
from tests import corpus


class ArrowFiles(WritableForm):
    """Arrow files of images with keys."""

    name, title, one, ending = "arrow", "Arrow files", "Arrow file", ".arrow"

    def reads(self, name):  # type: ignore[no-untyped-def]
        return name.endswith(".arrow")

    def open(self, url, entries, *, alike=True):  # type: ignore[no-untyped-def]
        tables = [_table(storage.read(entry.url)) for entry in entries]
        pieces = Pieces()
        for number, table in enumerate(tables):
            pieces.add(number, [len(table)], [table.nbytes])
        return Store(url, self.name, tables[0].schema.remove_metadata(), entries, pieces.ranges(entries).of_shards)

    def read(self, ranges, columns, *, wants=None, unchanged=False):  # type: ignore[no-untyped-def]
        tables = [_table(storage.read(require_unchanged(r).url)).slice(r.start, r.rows) for r in ranges]
        tables = [t.append_column(SHARD, pa.array([r.shard] * len(t))) for r, t in zip(ranges, tables, strict=True)]
        rows = pa.concat_tables(t.replace_schema_metadata() for t in tables)
        return rows if wants is None else rows.filter(pa.array(map(wants, rows["key"].to_pylist())))

    def row_names(self, piece):  # type: ignore[no-untyped-def]
        return [f"{piece.shard}#{row}" for row in range(piece.start, piece.stop)]

    def keys(self, store):  # type: ignore[no-untyped-def]
        yield from ((r.url, self.read([r], None)["key"].to_pylist()) for r in store.ranges)

    def has_unique_keys(self, store):  # type: ignore[no-untyped-def]
        return False

    def encode(self, rows, notes, column, extension):  # type: ignore[no-untyped-def]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema.with_metadata(notes)) as file:
            file.write_table(rows)
        return sink.getvalue().to_pybytes(), {}

    def files(self, data):  # type: ignore[no-untyped-def]
        return ()

    def check(self, data):  # type: ignore[no-untyped-def]
        table = _table(data)
        return {name.decode(): note.decode() for name, note in table.schema.metadata.items()}, len(table)

    def columns(self, data, names):  # type: ignore[no-untyped-def]
        return (table := _table(data)).select([name for name in names if name in table.column_names])

    def read_columns(self, url, names, *, first=None):  # type: ignore[no-untyped-def]
        return self.columns(storage.read(url), names).slice(0, first)


def _table(data: bytes) -> pa.Table:
    return pa.ipc.open_file(data).read_all()


def test_it_is_written_verified_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "FORMS", [*registry.FORMS[:1], ArrowFiles(), *registry.FORMS[1:]])
    folder, written, packed = corpus.write_folder(str(tmp_path / "in"), 6), str(tmp_path / "arrow"), str(tmp_path / "p")
    options = ["--limits.rows", "2", "--budget.share", "0.9", "--local"]
    with monkeypatch.context() as patched:
        patched.setattr(job, "Sink", functools.partial(Sink, ArrowFiles()))
        assert pack.main(["--input", folder, "--output", written, *options]) == 0
    assert [e.name[-6:] for e in storage.list_files(f"{written}/data")] == [".arrow"] * 5
    assert verify.main(["--input", written]) == 0
    assert "9 inputs = 6 ok + 3 quarantined" in capsys.readouterr().out
    assert pack.main(["--input", written, "--output", packed, *options]) == 0
    assert verify.main(["--input", packed]) == 0
    files = {e.name: storage.read(e.url) for e in storage.list_files(folder)}
    rows = corpus.rows(packed)
    assert len(rows) == 6
    assert {row["key"]: row["image"]["bytes"] for row in rows} == {row["key"]: files[row["key"]] for row in rows}
    (Path(written) / "data/000000-000001.arrow").write_bytes(b"harmed")
    assert verify.main(["--input", written]) == 1
    assert "data/000000-000001.arrow is harmed" in capsys.readouterr().out


def test_the_forms_that_can_be_chosen_are_those_that_can_be_written() -> None:
    assert sorted(get_args(FormName)) == sorted(form.name for form in registry.writable_forms())
