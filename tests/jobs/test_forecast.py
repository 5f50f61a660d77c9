"""Forecast of a run by its dry run, and what came in the end, through the command lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs import augment, pack, translate, verify
from pipeline import failpoints, images, storage
from pipeline.engine.completion import finish
from pipeline.engine.records.layout import Output, load_segments
from pipeline.engine.records.limits import Limits
from pipeline.engine.run import plan_only
from pipeline.errors import UserError
from pipeline.stores.tables.schema import image_array
from pipeline.translate.config import TranslateConfig
from pipeline.translate.job import translate_job
from pipeline.translation import arithmetic
from tests import corpus, seaweed
from tests import proxy as faults
from tests.jobs.test_one_output import end_at
from tests.jobs.test_scores import write_cyclegan
from tests.proxy import Proxy

CLOSE = 0.15
"""Share by which a forecast may be off."""
BUSY = 2.0
"""Factor by which device time may be off: other work takes the cores at one moment and not at another."""


def write_mixed(url: str, count: int, *, side: int = 32) -> str:
    """Write a folder of images of two sizes, as JPEG and PNG."""
    for i in range(count):
        codec: images.CodecName = "png" if i % 3 else "jpeg"
        picture = corpus.picture(i, side if i % 2 else side + 16, side)
        data = images.encode(picture, images.Encoding(codec=codec))
        storage.replace(storage.join(url, f"{i:05d}.{images.CODECS[codec].extension}"), data)
    return url


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    return corpus.write_bundle(str(tmp_path_factory.mktemp("forecast") / "bundle"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_mixed(str(tmp_path_factory.mktemp("forecast") / "in"), 45)


def run(source: str, output: str, bundle: str, *options: str) -> int:
    arguments = ["--input", source, "--output", output, "--bundle", bundle, "--local", "--limits.rows", "9"]
    return translate.main([*arguments, *options])


def manifest(output: str) -> pa.Table:
    table = finish.read_manifest(storage.read(storage.join(output, "_transdomain/manifest.parquet")))
    assert table is not None
    return table


def written(output: str) -> int:
    """Return the bytes of the shards, or of the files and the verdicts."""
    names = ("data/", "_transdomain/verdicts/")
    return sum(entry.size for entry in storage.list_files(output) if entry.name.startswith(names))


PRICES = ("--prices.device_hour", "2.5", "--prices.gb_month", "0.023")


def test_a_dry_run_says_what_it_takes_what_it_does_not_know_and_writes_nothing(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, str(tmp_path / "out"), bundle, "--dry_run", *PRICES) == 0
    assert list(tmp_path.iterdir()) == []
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"would write {tmp_path / 'out'}: 45 inputs in 5 units"
    assert all(len(line) <= 80 for line in lines[:-1])
    table = [line.split() for line in lines]
    assert ["PNG", "30"] in [row[:2] for row in table]
    assert ["JPEG", "15"] in [row[:2] for row in table]
    text = "\n".join(lines)
    assert "32 × 48" in text
    assert "sizes in pixels, of all images" in text
    assert re.search(r"writes +not known +add --sample 32\n", text)
    assert re.search(r"device hours +not known +add --sample 32, or --images_per_s\n", text)
    assert re.search(r"requests +none +nothing is on S3\n", text)
    assert re.search(r"cost: devices +not known\n", text)


def test_a_given_rate_decides_device_hours_and_units(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--dry_run", "--images_per_s", "0.5", "--resources.actors", "2", *PRICES)
    arguments = ["--input", source, "--output", str(tmp_path / "out"), "--bundle", bundle]
    assert translate.main([*arguments, *given]) == 0
    text = capsys.readouterr().out
    assert "45 inputs in 12 units\n" in text  # of 4 rows: four for each device
    assert re.search(r"device hours +0\.025 +at the given rate\n", text)  # 90 s
    assert re.search(r"wall time +45 s +2 devices", text)
    assert re.search(r"cost: devices +0\.062\n", text)


def test_scores_are_said_to_come_on_top_of_a_rate(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_cyclegan(str(tmp_path / "bundle"))
    options = ("--dry_run", "--images_per_s", "0.5", "--score", "realism")
    assert run(source, str(tmp_path / "out"), bundle, *options) == 0
    assert re.search(r"device hours +0\.025 +at the given rate; scores come on top\n", capsys.readouterr().out)


@pytest.mark.parametrize("options", [("--images_per_s", "1"), ("--dry_run", "--images_per_s", "1", "--sample", "2")])
def test_a_rate_that_would_do_nothing_is_refused(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    assert run(source, str(tmp_path / "out"), bundle, *options) == 2
    assert "--images_per_s is for --dry_run without --sample" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("sample", 0), ("images_per_s", 0.0)])
def test_impossible_values_are_refused(source: str, bundle: str, option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{option} is {value}"):
        TranslateConfig(input=source, output="out", bundle=(bundle,), dry_run=True, **{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["parquet", "folder"])
def test_bytes_and_units_come_as_a_sample_has_said(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    output = str(tmp_path / "out")
    options = ("--sample", "24", "--form", form, *PRICES)
    assert run(source, output, bundle, "--dry_run", *options) == 0
    said = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert re.search(r"writes +[\d.]+ kB ± \d+% +24 images translated\n", said)
    assert run(source, output, bundle, *options) == 0
    (segment,) = load_segments(Output(output))
    expected, made = segment.expected, manifest(output)
    assert expected["units"] == len(made) == 5
    assert expected["bytes_out"] == pytest.approx(written(output), rel=CLOSE)
    assert expected["bytes_in"] == sum(entry.size for entry in storage.list_files(source))
    assert expected["device_s"] > 0
    assert all(seconds > 0 for seconds in made["device_s"].to_pylist())
    assert all(flop > 0 for flop in made["flop"].to_pylist())
    last = capsys.readouterr().out
    assert re.search(r"\n +expected +was\n", last)
    assert re.search(r"units +5 +5\n", last)
    assert all(len(line) <= 80 for line in last.splitlines()[1:])
    assert re.search(r"goodput +not known +the dense rate was not measured\n", last)
    report = storage.read(storage.join(output, "_transdomain/report.html")).decode()
    assert "<h2>Expected and made</h2>" in report
    assert "cost: storage a month" in report
    assert verify.main(["--input", output]) == 0


def test_without_any_price_there_is_no_cost(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, str(tmp_path / "out"), bundle, "--dry_run") == 0
    assert "cost" not in capsys.readouterr().out


def test_goodput_is_the_share_of_the_dense_rate_that_was_measured(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "_SMALL_FLOP", 0.0)
    output = str(tmp_path / "out")
    assert run(source, output, bundle, *PRICES) == 0
    rate = load_segments(Output(output))[0].measured["dense_rate"]
    made = manifest(output)
    work = sum(made["flop"].to_pylist()) / rate
    spans = zip(made["started"].to_pylist(), made["ended"].to_pylist(), strict=True)
    took_s = sum(end - start for start, end in spans)  # a plain loop makes one unit after the other
    said = re.search(r"goodput +([\d.]+)% +of ([\d.]+) TFLOP/s\n", capsys.readouterr().out)
    assert said
    assert float(said[1]) / 100 == pytest.approx(work / took_s, rel=0.1, abs=0.001)
    assert float(said[2]) == pytest.approx(rate / 1e12, rel=0.01)


def test_who_asks_for_nothing_is_told_nothing_of_it(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report has the table in any case."""
    assert run(source, str(tmp_path / "out"), bundle) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert "Expected and made" in (tmp_path / "out/_transdomain/report.html").read_text()


def test_after_a_crash_the_rest_is_forecast_and_all_of_it_is_compared(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "point", end_at("before data"))
        assert run(source, output, bundle, "--sample", "6") == 1
    (segment,) = load_segments(Output(output))
    capsys.readouterr()
    assert run(source, output, bundle, "--dry_run") == 0
    assert "\n1 units are left; the following is of those\n" in capsys.readouterr().out
    assert run(source, output, bundle, "--dry_run", "--images_per_s", "0.5") == 0
    assert re.search(r"device hours +0\.005 +at the given rate\n", capsys.readouterr().out)  # 9 images, 18 s
    assert run(source, output, bundle) == 0
    assert load_segments(Output(output))[0].expected == segment.expected
    assert re.search(r"units +5 +5\n", capsys.readouterr().out)
    assert run(source, output, bundle, "--dry_run") == 0
    assert "\nnothing is left to do\n" in capsys.readouterr().out


def test_an_image_that_no_decoder_takes_is_told_of_in_the_forecast(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 9)
    assert run(source, str(tmp_path / "out"), bundle, "--dry_run", "--sample", "12") == 0
    text = capsys.readouterr().out
    assert re.search(r"quarantined +about 25% +3 of 12 that were tried out\n", text)
    assert "2 do not say their size, or cannot be read" in text


def test_a_slot_of_several_translators_is_forecast(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "out")
    other = write_mixed(str(tmp_path / "more"), 15)
    wishes = {
        "sources": {"cameras": source, "drones": other},
        "translators": {"night": {"bundle": bundle, "probability": 0.5}, "rain": {"bundle": bundle}},
        "output": output, "limits": {"rows": 20},
    }  # fmt: skip
    (tmp_path / "augment.yaml").write_text(yaml.safe_dump(wishes))
    arguments = ["--config", str(tmp_path / "augment.yaml"), "--slot", "2026-10-01", "--local", "--sample", "30"]
    assert augment.main([*arguments, "--dry_run"]) == 0
    assert not storage.exists(output)
    assert re.search(r"PNG +40 ", capsys.readouterr().out)
    assert augment.main(arguments) == 0
    (segment,) = load_segments(Output(output))
    assert segment.expected["units"] == segment.units == len(manifest(output))
    assert segment.expected["images"] == 60
    assert segment.expected["bytes_out"] == pytest.approx(written(output), rel=CLOSE)
    assert re.search(r"units +\d+ +\d+\n", capsys.readouterr().out)


def test_several_translators_in_one_pass_are_forecast(
    source: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "_SMALL_FLOP", 0.0)
    output, other = str(tmp_path / "out"), corpus.write_bundle(str(tmp_path / "other"), width=6)
    assert run(source, output, bundle, "--bundle", bundle, other, "--sample", "24") == 0
    (segment,) = load_segments(Output(output))
    assert segment.expected["units"] == segment.units == len(manifest(output))
    assert segment.expected["images"] == 45
    assert segment.expected["bytes_out"] == pytest.approx(written(output), rel=CLOSE)
    assert sum(manifest(output)["device_s"].to_pylist()) > 0
    assert re.search(r"goodput +[\d.]+% +of [\d.]+ TFLOP/s", capsys.readouterr().out)


def test_a_job_without_a_forecast_has_none(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack.main(["--input", source, "--output", str(tmp_path / "out"), "--local"]) == 0
    assert load_segments(Output(str(tmp_path / "out")))[0].expected == {}
    assert "expected" not in capsys.readouterr().out
    assert "Expected" not in (tmp_path / "out/_transdomain/report.html").read_text()


def test_a_manifest_of_an_earlier_version_is_read() -> None:
    record = {
        "unit": "000000-000000",
        "counts": {"inputs": 1, "ok": 1, "quarantined": 0, "skipped": 0},
        "data": {"name": "data/000000-000000.parquet", "size": 1, "sha256": "0" * 64},
        "quarantine": None,
        "attempt": {"host": "h", "started": 0.0, "ended": 1.0},
    }
    now = finish.manifest_table([record])
    assert now["device_s"].to_pylist() == [None]
    for later in (["stages"], ["device_s", "flop", "stages"]):
        sink = pa.BufferOutputStream()
        pq.write_table(now.drop_columns(later), sink)
        found = finish.read_manifest(sink.getvalue().to_pybytes())
        assert found is not None
        assert found.equals(now)


# --- at a real S3 server ----------------------------------------------------------------------------------------


@pytest.fixture
def proxy(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with faults.between(s3_server, monkeypatch) as between:
        yield between


def write_shards(url: str, count: int, shards: int, *, side: int = 24) -> str:
    for number in range(shards):
        keys = [f"{number}-{i}" for i in range(count // shards)]
        sizes = [(side, side + 16 * ((number + i) % 3)) for i in range(len(keys))]
        data = [images.encode(corpus.picture(i, *size), images.Encoding()) for i, size in enumerate(sizes)]
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.table({"key": keys, "image": image_array(data, keys)}), buffer)
        storage.replace(f"{url}/{number:03d}.parquet", buffer.getvalue().to_pybytes())
    return url


def requests_of(proxy: Proxy) -> tuple[int, int]:
    """Return the requests that the server has seen: those that write or list, and those that read."""
    asked = [r for r in proxy.requests if r.method != "DELETE"]
    writing = sum(r.method in ("PUT", "POST") or not r.key for r in asked)
    return writing, len(asked) - writing


@pytest.mark.parametrize("form", ["parquet", pytest.param("folder", marks=pytest.mark.long)])
def test_requests_come_as_forecast_and_are_counted_as_the_server_counts_them(
    proxy: Proxy, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    prefix = f"s3://{seaweed.BUCKET}/{tmp_path.name}-{form}"
    if form == "parquet":
        source, options = write_shards(f"{prefix}/in", 72, 3), ("--limits.rows", "6")
    else:
        source, options = write_mixed(f"{prefix}/in", 60, side=16), ("--limits.rows", "20", "--form", "folder")
    proxy.requests.clear()
    assert run(source, f"{prefix}/out", bundle, *options, *PRICES) == 0
    seen = requests_of(proxy)
    expected = load_segments(Output(f"{prefix}/out"))[0].expected
    assert expected["put"] == pytest.approx(seen[0], rel=CLOSE)
    assert expected["get"] == pytest.approx(seen[1], rel=CLOSE)
    last = capsys.readouterr().out.replace(",", "")
    for kind, count in zip(("write or list", "read"), seen, strict=True):
        said = re.search(rf"requests: {kind} +\d+ +(\d+)\s", last)
        assert said
        assert int(said[1]) == count


@pytest.mark.long
def test_two_thousand_images_come_as_forecast(
    s3_server: str, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = f"s3://{seaweed.BUCKET}/{tmp_path.name}"
    source, options = (
        write_shards(f"{prefix}/in", 2000, 8, side=64),
        ("--limits.rows", "64", "--sample", "128", *PRICES),
    )
    assert run(source, f"{prefix}/out", bundle, "--dry_run", *options) == 0
    assert storage.list_files(f"{prefix}/out").names.to_pylist() == []
    said = capsys.readouterr().out
    job = translate_job(
        TranslateConfig(
            input=source,
            output=f"{prefix}/out",
            bundle=(bundle,),
            local=True,
            dry_run=True,
            sample=128,
            limits=Limits(rows=64),
        )
    )
    (planned,) = plan_only([job])
    found = job.forecast(planned.piles, looks=True).expected.amounts
    assert run(source, f"{prefix}/out", bundle, *options[:2]) == 0
    last, made = capsys.readouterr().out, manifest(f"{prefix}/out")
    with capsys.disabled():
        print(f"\n{said}\n{last}")
    counted = {
        name: int(re.search(rf"requests: {kind} +[\d,]+ +([\d,]+)\s", last)[1].replace(",", ""))  # type: ignore[index]
        for name, kind in (("put", "write or list"), ("get", "read"))
    }
    assert found.units == len(made)
    assert found.bytes_out == pytest.approx(written(f"{prefix}/out"), rel=CLOSE)
    assert found.put == pytest.approx(counted["put"], rel=CLOSE)
    assert found.get == pytest.approx(counted["get"], rel=CLOSE)
    device_s = sum(made["device_s"].to_pylist())
    assert device_s / BUSY < (found.device_s or 0.0) < device_s * BUSY
