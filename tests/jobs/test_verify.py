from __future__ import annotations

import os
import time
import uuid

import pytest

from jobs import pack, translate, verify
from pipeline import images, storage
from tests import corpus, seaweed
from tests.conftest import new_prefix

KINDS = ("pack", "parquet", "folder")
ON_DISK = [(kind, "local") for kind in KINDS]
# A whole, a harmed and a missing object are what verify sees on S3; the rest it finds by the same listing.
S3_IS_LONG = pytest.mark.parametrize(
    "output",
    [*ON_DISK, *(pytest.param((kind, "s3"), marks=pytest.mark.long) for kind in KINDS)],
    ids="-".join,
    indirect=True,
)


@pytest.fixture(
    params=[
        *ON_DISK, ("parquet", "s3"),
        *(pytest.param((kind, "s3"), marks=pytest.mark.long) for kind in ("pack", "folder")),
    ],
    ids="-".join,
)  # fmt: skip
def output(request: pytest.FixtureRequest) -> str:
    kind, store = request.param
    prefix = new_prefix(store, request)
    source, output = corpus.write_folder(storage.join(prefix, "in"), 6), storage.join(prefix, "out")
    options = ["--input", source, "--output", output, "--local", "--limits.rows", "4"]
    if kind == "pack":
        assert pack.main(options) == 0
    else:
        bundle = corpus.write_bundle(storage.join(prefix, "bundle"))
        assert translate.main([*options, "--bundle", bundle, "--form", kind]) == 0
    return output


def check(output: str, capsys: pytest.CaptureFixture[str], code: int, expected: str, *options: str) -> None:
    assert verify.main(["--input", output, *options]) == code
    assert expected in capsys.readouterr().out


def an_object(output: str, prefix: str) -> str:
    return next(e.url for e in storage.list_files(output) if e.name.startswith(prefix))


def test_a_finished_output_is_whole(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    check(output, capsys, 0, "9 inputs = 6 ok + 3 quarantined + 0 skipped, in 3 units: whole")


def test_a_harmed_object_is_found(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = an_object(output, "data/")
    data = bytearray(storage.read(url))
    data[len(data) // 2] ^= 1
    storage.replace(url, bytes(data))
    check(output, capsys, 1, "is harmed")


def test_a_missing_object_is_found(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage.delete(an_object(output, "data/"))
    check(output, capsys, 1, "is missing")


@pytest.mark.parametrize("harm", [None, b"no shard"])
def test_a_missing_or_harmed_verdict_is_named(
    shared_prefix: str, harm: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = corpus.write_folder(storage.join(shared_prefix, "in"), 3), storage.join(shared_prefix, "out")
    bundle = corpus.write_bundle(storage.join(shared_prefix, "bundle"))
    options = ["--input", source, "--output", output, "--bundle", bundle, "--form", "folder", "--local"]
    assert translate.main(options) == 0
    url = an_object(output, "_transdomain/verdicts/")
    storage.delete(url) if harm is None else storage.replace(url, harm)
    check(output, capsys, 1, f"{url.removeprefix(output + '/')} is {'missing' if harm is None else 'harmed'}")


@S3_IS_LONG
def test_a_missing_commit_is_found(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage.delete(an_object(output, "_transdomain/commits/"))
    check(output, capsys, 1, "has no commit")


@S3_IS_LONG
def test_a_stranger_among_the_data_is_found(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage.replace(storage.join(output, "data/stranger.parquet"), b"x")
    check(output, capsys, 1, "belongs to no committed unit")


@S3_IS_LONG
def test_a_missing_mark_is_found(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage.delete(storage.join(output, "_SUCCESS"))
    check(output, capsys, 1, "_SUCCESS is missing")


@S3_IS_LONG
def test_a_changed_source_is_found(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = output.removesuffix("out") + "in"
    storage.replace(f"{source}/even/000.jpg", images.encode(corpus.picture(9, 30, 30), images.Encoding()))
    check(output, capsys, 1, "cannot be compared with its source")
    check(output, capsys, 0, "whole", "--no_source")


def test_leftovers_are_named_and_removed_after_a_day(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = corpus.write_folder(f"{tmp_path}/in", 2), f"{tmp_path}/out"
    assert pack.main(["--input", source, "--output", output, "--local"]) == 0
    for name, age in (("old", 100_000), ("new", 0)):
        path = f"{output}/data/.{name}.parquet.0.tmp"
        storage.replace(path, b"half")
        os.utime(path, (time.time() - age,) * 2)
    check(output, capsys, 0, "removed 1 of 2 leftovers", "--clean")
    assert storage.exists(f"{output}/data/.new.parquet.0.tmp")


def test_what_is_no_output_is_said_in_one_line(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main(["--input", f"{tmp_path}"]) == 2
    assert "not the output of a job" in capsys.readouterr().err


def test_an_upload_that_was_never_completed_is_named_and_removed_after_a_day(
    s3_server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"s3://{seaweed.BUCKET}/{uuid.uuid4().hex}"
    source, output = corpus.write_folder(f"{prefix}/in", 2), f"{prefix}/out"
    assert pack.main(["--input", source, "--output", output, "--local"]) == 0
    fs, path = storage.filesystem(f"{output}/data/000000-000009.parquet")
    bucket, _, key = path.partition("/")
    made = fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
    fs.call_s3("upload_part", Bucket=bucket, Key=key, UploadId=made["UploadId"], PartNumber=1, Body=b"half")
    check(output, capsys, 0, "removed 0 of 1 leftovers", "--clean")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 100_000)
    check(output, capsys, 0, "data/000000-000009.parquet (an upload that was never completed)")
    check(output, capsys, 0, "removed 1 of 1 leftovers", "--clean")
    assert storage.list_unfinished_uploads(output) == []


def test_what_a_console_leaves_on_s3_is_no_fault(s3_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = f"s3://{seaweed.BUCKET}/{uuid.uuid4().hex}"
    source, output = corpus.write_folder(f"{prefix}/in", 2), f"{prefix}/out"
    assert pack.main(["--input", source, "--output", output, "--local"]) == 0
    fs, path = storage.filesystem(output)
    bucket, _, key = path.partition("/")
    for marker in ("", "data/", "_quarantine/"):
        fs.call_s3("put_object", Bucket=bucket, Key=f"{key}/{marker}", Body=b"")
    check(output, capsys, 0, "whole")
