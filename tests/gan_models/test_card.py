"""Model card: what the hub's own client reads from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from gan_models import card

PROTOCOL = {"dataset": "s3://bucket/held-out", "images": 100, "size": "256x256", "weights": "moving average"}


def config(**more: Any) -> dict[str, Any]:
    return {
        "objective": "cyclegan", "direction": "a_to_b", "training_size": 256, "provenance": {},
        "generators": {"a_to_b": {"architecture": {"kind": "resnet", "width": 64}}},
        **more,
    }  # fmt: skip


def read(**more: Any) -> ModelCard:
    options = {name: more.pop(name) for name in ("license_id",) if name in more}
    return ModelCard(card.model_card(config(**more), with_sample=False, **options))


def result(metric: str, value: Any, **protocol: Any) -> dict[str, Any]:
    return {"metric": metric, "value": value, "protocol": PROTOCOL | protocol}


def test_a_card_says_what_a_hub_asks_and_no_licence_that_nobody_gave() -> None:
    found = read()
    assert found.data.library_name == "pytorch"
    assert found.data.pipeline_tag == "image-to-image"
    assert found.data.tags == ["image-to-image", "cyclegan"]
    assert found.data.license is None
    assert found.data.eval_results is None
    assert read(license_id="apache-2.0").data.license == "apache-2.0"


def test_results_come_back_with_their_protocol() -> None:
    results = [result("fid", 41.25), result("kid", 1e-05), result("fid", 7, dataset="hf://datasets/some/photos@v1/x")]
    found = read(results=results).data.eval_results
    assert [(each.metric_type, each.metric_value, each.dataset_type, each.dataset_name) for each in found] == [
        ("fid", 41.25, "other", "s3://bucket/held-out"),
        ("kid", 1e-05, "other", "s3://bucket/held-out"),
        ("fid", 7, "some/photos", "hf://datasets/some/photos@v1/x"),
    ]
    assert {each.task_type for each in found} == {"image-to-image"}
    assert found[0].metric_args == {name: value for name, value in PROTOCOL.items() if name != "dataset"}


def test_what_was_no_number_is_in_the_table_and_not_in_the_head() -> None:
    found = read(results=[result("psnr", None), result("ssim", 0.5)])
    assert [each.metric_type for each in found.data.eval_results] == ["ssim"]
    assert "| psnr | no finite number |" in found.content


def test_datasets_of_the_hub_are_named_as_such() -> None:
    data = {"source": "hf://datasets/some/photos/train", "target": "hf://datasets/some/photos/train"}
    assert read(provenance={"data": data}).data.datasets == ["some/photos"]
    assert read(provenance={"data": {"source": "s3://bucket/a", "target": ""}}).data.datasets is None


@pytest.mark.parametrize(
    "text", ["a|b", 'quotes " and \\ and: {', "\x7f\u2028 line\nend", "\U0001f600 é", "null", "1e5"]
)
def test_any_text_and_number_survives_the_head(text: str) -> None:
    value = {"text": text, text: [1e-07, 1.5, 12, True, None, 1e300]}
    assert yaml.safe_load(card._yaml(value)) == value
    assert "\n" not in card._yaml(value)
    found = read(results=[result("fid", 1.0, dataset=text)])
    assert found.data.eval_results[0].dataset_name == text
    assert len([line for line in found.content.splitlines() if line.startswith("| fid |")]) == 1


def test_the_head_holds_nothing_that_json_cannot(tmp_path: Any) -> None:
    head = yaml.safe_load(card.model_card(config(results=[result("fid", 1.5)]), with_sample=True).split("---")[1])
    assert json.loads(json.dumps(head)) == head
