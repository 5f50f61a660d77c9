"""jobs.export --to: bundles and datasets on a stand-in of the hub, pushed and read by the hub's own client.

Files go the way of Git LFS here (HF_HUB_DISABLE_XET); the hub itself was not asked.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard, constants

from gan_models import load_bundle
from jobs import augment, export, pack
from pipeline import images, storage
from pipeline.hub import repository
from tests import corpus, hub_writing

TO_MODEL, TO_DATASET = f"hf://{hub_writing.OWNER}/translator", f"hf://datasets/{hub_writing.OWNER}/images"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[hub_writing.State]:
    with hub_writing.serving() as state:
        monkeypatch.setenv("HF_ENDPOINT", state.endpoint)
        monkeypatch.setenv("HF_TOKEN", hub_writing.TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_login"))
        yield state


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    source = corpus.write_folder(str(folder / "in"), 6)
    for form in ("parquet", "folder", "webdataset"):
        options = ["--input", source, "--output", str(folder / form), "--local", "--limits.rows", "4", "--form", form]
        assert pack.main(options) == 0
    return folder


def push(source: object, to: str, *options: str) -> int:
    return export.main(["--input" if "datasets" in to else "--bundle", str(source), "--to", to, *options])


def fetched(hub: hub_writing.State, to: str, folder: Path) -> Path:
    """Return a copy of a repository that the hub's own client has fetched."""
    kind = "dataset" if "datasets" in to else "model"
    name = to.rpartition("://")[2].removeprefix("datasets/")
    where = huggingface_hub.snapshot_download(
        name, repo_type=kind, local_dir=folder, endpoint=hub.endpoint, token=hub_writing.TOKEN
    )
    return Path(where)


def refused(capsys: pytest.CaptureFixture[str], text: str) -> None:
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert text in said.err
    assert hub_writing.TOKEN not in said.err


def test_a_bundle_comes_back_and_is_not_sent_again(
    hub: hub_writing.State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    scores = tmp_path / "scores.json"
    result = {"metric": "fid", "name": "FID", "value": 41.5, "protocol": {"dataset": "s3://b/held-out", "images": 50}}
    scores.write_text(json.dumps({"results": [result]}))
    assert push(bundle, TO_MODEL, "--license", "apache-2.0", "--scores", str(scores)) == 0
    assert f"{TO_MODEL}: pushed: 3 files, " in capsys.readouterr().out
    there = hub.repositories[f"models/{hub_writing.OWNER}/translator"]
    assert there.private
    assert len(hub.sent) == len(set(hub.sent)) > 0
    copy = fetched(hub, TO_MODEL, tmp_path / "copy")
    assert load_bundle(copy).sha256 == load_bundle(bundle).sha256
    card = ModelCard.load(copy / "README.md")
    assert card.data.license == "apache-2.0"
    assert [(each.metric_type, each.metric_value, each.metric_args) for each in card.data.eval_results] == [
        ("fid", 41.5, {"images": 50})
    ]
    commits, sent = list(there.commits), list(hub.sent)
    assert push(bundle, TO_MODEL, "--license", "apache-2.0", "--scores", str(scores)) == 0
    assert "all 3 files were there already" in capsys.readouterr().out
    assert (there.commits, hub.sent) == (commits, sent)


def test_a_dataset_comes_back_as_readers_see_it(
    hub: hub_writing.State, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(packed / "parquet", TO_DATASET, "--license", "cc-by-4.0") == 0
    assert "private" in capsys.readouterr().out
    copy = fetched(hub, TO_DATASET, tmp_path / "copy")
    names = [str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()]
    assert {name for name in names if not name.startswith(".cache/")} == {
        "README.md", "croissant.json", "_transdomain/manifest.parquet",
        *(f"data/000000-00000{i}.parquet" for i in range(3)),
    }  # fmt: skip
    assert corpus.rows(str(copy)) == corpus.rows(str(packed / "parquet"))
    loaded = datasets.load_dataset(str(copy), split="train", cache_dir=str(tmp_path / "cache"))
    assert (len(loaded), loaded[0]["image"].size) == (6, (24, 24))
    card = DatasetCard.load(copy / "README.md")
    assert (card.data.license, card.data.size_categories) == ("cc-by-4.0", ["n<1K"])
    assert card.data.configs[0]["data_files"][0]["path"] == "data/**"
    whole = "".join((copy / name).read_text() for name in ("README.md", "croissant.json"))
    assert str(packed) not in whole, "a path of this machine means nothing elsewhere"
    said = json.loads((copy / "croissant.json").read_text())
    assert said["url"] == f"{hub.endpoint}/datasets/{hub_writing.OWNER}/images"
    assert said["license"] == "https://spdx.org/licenses/cc-by-4.0"
    manifest = pq.read_table(copy / "_transdomain/manifest.parquet").to_pylist()
    assert [row["file"] for row in manifest] == sorted(row["file"] for row in manifest)
    assert sum(row["rows"] for row in manifest) == 6
    mlcroissant = pytest.importorskip("mlcroissant")
    assert len(list(mlcroissant.Dataset(jsonld=str(copy / "croissant.json")).records("rows"))) == 6


@pytest.mark.parametrize("form", ["folder", "webdataset"])
def test_other_forms_come_whole(hub: hub_writing.State, packed: Path, tmp_path: Path, form: str) -> None:
    assert push(packed / form, TO_DATASET) == 0
    copy = fetched(hub, TO_DATASET, tmp_path / "copy")
    for entry in storage.list_files(str(packed / form / "data")):
        assert (copy / "data" / entry.name).read_bytes() == storage.read(entry.url)


def test_a_push_that_was_ended_goes_on(
    hub: hub_writing.State, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(repository, "_FILES_A_COMMIT", 1)
    there = lambda: hub.repositories[f"datasets/{hub_writing.OWNER}/images"]  # noqa: E731
    hub.fails = lambda method, path: 400 if "/commit/" in path and len(there().commits) == 2 else 0
    assert push(packed / "parquet", TO_DATASET) == 2
    refused(capsys, "the hub refuses it (400")
    assert sorted(there().files) == ["data/000000-000000.parquet", "data/000000-000001.parquet"]
    hub.fails, sent = lambda method, path: 0, list(hub.sent)
    assert push(packed / "parquet", TO_DATASET) == 0
    assert "2 of them were there already" in capsys.readouterr().out
    assert not set(hub.sent[len(sent) :]) & set(sent)
    assert "README.md" in there().files


def test_a_redone_slot_is_pushed_as_it_is_read_and_its_old_files_go(
    hub: hub_writing.State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, file = str(tmp_path / "out"), tmp_path / "augment.yaml"

    def run(bundle: str, *options: str) -> None:
        wishes = {
            "sources": {"cameras": str(tmp_path / "in")}, "translators": {"night": {"bundle": bundle}},
            "keep_originals": False, "limits": {"rows": 1},
        }  # fmt: skip
        file.write_text(yaml.safe_dump(wishes))
        assert augment.main(["--config", str(file), "--output", output, "--local", *options]) == 0

    old, new = (corpus.write_bundle(str(tmp_path / f"{width}"), width=width) for width in (4, 6))
    for number, day in enumerate(("2026-10-01", "2026-10-02")):
        data = images.encode(corpus.picture(number), images.Encoding(codec="png"))
        storage.replace(str(tmp_path / f"in/{day}.png"), data)
        run(old, "--slot", day)
    assert push(output, TO_DATASET) == 0
    before = dict(hub.repositories[f"datasets/{hub_writing.OWNER}/images"].files)
    run(new, "--redo", "2026-10-02")
    capsys.readouterr()
    assert push(output, TO_DATASET) == 0
    assert "1 files of an earlier push deleted" in capsys.readouterr().out
    after = hub.repositories[f"datasets/{hub_writing.OWNER}/images"].files
    data = [name for name in after if name.startswith("data/")]
    assert [name.split("/")[1] for name in sorted(data)] == ["slot=2026-10-01", "slot=2026-10-02"]
    models = [pq.read_table(io.BytesIO(after[name]))["model"].to_pylist() for name in sorted(data)]
    assert models[0] != models[1]
    assert after[sorted(data)[0]] == before[sorted(data)[0]]
    assert json.loads(after["croissant.json"])["isLiveDataset"] is True
    assert b"2 rows in 2 files in `data/`, 2 slots" in after["README.md"]


def test_what_is_not_whole_is_not_pushed(
    hub: hub_writing.State, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(packed / "parquet", output)
    (output / "_SUCCESS").unlink()
    assert push(output, TO_DATASET) == 2
    refused(capsys, "is not finished, and only a whole output is pushed")
    assert push(packed / "in", TO_DATASET) == 2
    refused(capsys, "is not the output of a job")
    bundle = Path(corpus.write_bundle(str(tmp_path / "bundle")))
    (bundle / "a_to_b.safetensors").unlink()
    assert push(bundle, TO_MODEL) == 2
    refused(capsys, "is not a whole bundle: it has no a_to_b.safetensors")
    assert hub.repositories == {}
    shutil.copy(packed / "parquet/_SUCCESS", output / "_SUCCESS")
    shard = output / "data/000000-000001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert push(output, TO_DATASET) == 1
    refused(capsys, "is not the file that its records name; `jobs.verify` says what is wrong")
    assert hub.repositories[f"datasets/{hub_writing.OWNER}/images"].files == {}


def test_files_of_somebody_else_are_left_alone(
    hub: hub_writing.State, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = {"data/theirs.parquet": b"theirs", "notes.txt": b"mine"}
    name = f"datasets/{hub_writing.OWNER}/images"
    hub.repositories[name] = hub_writing.Repository(private=True, files=dict(theirs))
    assert push(packed / "parquet", TO_DATASET) == 2
    refused(capsys, "has files in data/ that no push of this project made, such as data/theirs.parquet")
    assert hub.repositories[name].files == theirs


def test_what_everybody_can_read_is_asked_for(
    hub: hub_writing.State, packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"datasets/{hub_writing.OWNER}/images"
    hub.repositories[name] = hub_writing.Repository(private=False)
    assert push(packed / "parquet", TO_DATASET) == 2
    refused(capsys, "everybody can read this repository; add --public")
    assert hub.repositories[name].files == {}
    assert push(packed / "parquet", TO_DATASET, "--public") == 0
    assert "everybody can read it" in capsys.readouterr().out


def test_what_the_hub_would_refuse_is_one_line(
    hub: hub_writing.State, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(packed / "parquet", "hf://datasets/nobody/images") == 2
    refused(capsys, "nobody/images: the hub refuses it (403: You don't have the rights to create a dataset")
    monkeypatch.setenv("HF_TOKEN", "hf_some_other_token")
    assert push(packed / "parquet", TO_DATASET) == 2
    refused(capsys, "the hub refuses it (401")
    monkeypatch.delenv("HF_TOKEN")
    assert push(packed / "parquet", TO_DATASET) == 2
    refused(capsys, "no token of the Hugging Face hub: set HF_TOKEN in the environment, or run `hf auth login`")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert push(packed / "parquet", TO_DATASET) == 2
    refused(capsys, "pip install 'transdomain[hub]'")
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--bundle", "b"], "give either --output, a file to write, or --to"),
        (["--bundle", "b", "--output", "x.onnx", "--to", "hf://a/b"], "give either --output"),
        (["--input", "o", "--to", "hf://a/b"], "a model is pushed there; give it as --bundle, or hf://datasets/"),
        (["--bundle", "b", "--to", "hf://datasets/a/b"], "a dataset is pushed there; give a job's output as --input"),
        (["--bundle", "b", "--to", "hf://spaces/a/b"], "must be hf://OWNER/NAME for a bundle"),
        (["--bundle", "b", "--to", "s3://a/b"], "must be hf://OWNER/NAME for a bundle"),
        (["--bundle", "b", "--to", "hf://a/b", "--direction", "a_to_b"], "leave out --direction"),
        (["--bundle", "b", "--output", "x.onnx", "--public"], "--public is for a repository"),
        (["--input", "o", "--output", "x.onnx"], "a file is made from a bundle"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(options) == 2
    refused(capsys, text)


def test_scores_that_are_none_are_refused(
    hub: hub_writing.State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    (tmp_path / "scores.json").write_text('{"translation": {"l1_mean": 0.5}}')
    assert push(bundle, TO_MODEL, "--scores", str(tmp_path / "scores.json")) == 2
    refused(capsys, "holds no results; they are a list of")
    assert push(bundle, TO_MODEL, "--scores", str(tmp_path / "nothing.json")) == 2
    refused(capsys, "no such file")
