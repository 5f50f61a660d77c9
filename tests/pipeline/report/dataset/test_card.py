"""Dataset card: what the hub's own client reads in its head, and what versions of an output leave of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard

from jobs import pack, verify
from pipeline.engine.records.card import head_with, parts, plain
from pipeline.report.dataset.card import size_category
from tests import corpus

OLD = head_with("dataset_info:\n  features:\n  - name: key\n") + "# An output\n\ntext --- and\n---\nmore\n"


def test_the_head_of_a_finished_output_says_what_the_hub_asks(tmp_path: Path) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 4)
    assert pack.main(["--input", source, "--output", str(tmp_path / "out"), "--local", "--form", "webdataset"]) == 0
    card = DatasetCard.load(tmp_path / "out/README.md")
    assert card.data.configs == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/**"}]}
    ]  # fmt: skip
    assert card.data.pretty_name == "Packed image store"
    assert card.data.task_categories == ["image-to-image"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.license is None
    assert card.data.source_datasets is None
    assert verify.main(["--input", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**9, "1B<n<10B"), (10**12, "n>1T")],
)
def test_sizes_have_the_names_of_the_hub(rows: int, expected: str) -> None:
    assert size_category(rows) == expected


def test_a_card_of_an_earlier_version_reads_as_it_did() -> None:
    assert plain(OLD.encode()) == OLD.encode()
    rest, body = parts(OLD.encode())
    assert yaml.safe_load(rest) == {"dataset_info": {"features": [{"name": "key"}]}}
    assert body.startswith("# An output")
    assert plain(head_with("").encode() + b"# x\n") == head_with("").encode() + b"# x\n"


def test_a_list_of_files_of_versions_is_made_plain_again() -> None:
    versions = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path:\n    - data/a/**\n"
    card = f"{versions}pretty_name: x\ntags:\n- y\n---\n# t\n\n## Versions\n\nold\n"
    assert plain(card.encode()).decode() == head_with("pretty_name: x\ntags:\n- y\n") + "# t\n"
