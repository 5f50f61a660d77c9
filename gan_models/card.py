"""README.md of a model bundle: a card for people, with the metadata that model hubs read.

A *result* is plain data: {"metric": "psnr", "value": 21.4, "protocol": {…}}, with a "name" for people where the metric
has another one; the value is None where it was no finite number. The protocol says on what and how it was measured, as
names and values that JSON can hold; its "dataset" is the URL of the images. Results stand in config.json, and so in the
card.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]

_TITLES = {"pix2pix": "pix2pix", "cyclegan": "CycleGAN"}
_TASK = "image-to-image"
_ON_THE_HUB = re.compile(r"hf://datasets/([^/@]+/[^/@]+)")


def model_card(config: Mapping[str, Any], *, with_sample: bool, license_id: str = "") -> str:
    """Return the card as Markdown, from the contents of config.json.

    `license_id` is the licence as hubs name it, such as apache-2.0; without one the card names none.
    """
    title = f"{_TITLES.get(config['objective'], config['objective'])} translator"
    size = config["training_size"]
    rows = "\n".join(f"| `{name}` | {_describe(entry)} |" for name, entry in config["generators"].items())
    sample = "\n![Translations](sample.png)\n" if with_sample else ""
    provenance = json.dumps(config["provenance"], indent=2, sort_keys=True)
    return f"""---
{"".join(f"{name}: {_yaml(value)}{chr(10)}" for name, value in _head(config, title, license_id))}---
# {title}, {config["direction"].replace("_", " ")}
{sample}
Trained on crops of {size}×{size} pixels. Images go in and come out in [-1, 1].

| generator | architecture |
| --- | --- |
{rows}

```python
from gan_models import load_bundle

translated = load_bundle("path/of/this/folder")(image)  # a Pillow image
```
{results_table(config.get("results", []))}
## Provenance
```json
{provenance}
```
"""


def hub_dataset(url: str) -> str:
    """Return OWNER/NAME of the dataset on the Hugging Face hub that a URL is of; empty where it is of none."""
    found = _ON_THE_HUB.match(url)
    return found[1] if found else ""


def results_table(results: Sequence[Result]) -> str:
    """Return results as a section of Markdown, each with its protocol; empty where there is none."""
    if not results:
        return ""
    rows = "".join(
        f"| {_cell(result.get('name') or result['metric'])} | {_number(result['value'])} | "
        f"{_cell('; '.join(f'{name}: {_plain(value)}' for name, value in result['protocol'].items()))} |\n"
        for result in results
    )
    return f"\n## Results\n\n| metric | value | measured on, and how |\n| --- | --- | --- |\n{rows}"


def _head(config: Mapping[str, Any], title: str, license_id: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of the card's head, whose names are the hub's."""
    yield "library_name", "pytorch"
    yield "pipeline_tag", _TASK
    yield "tags", [_TASK, config["objective"]]
    if license_id:
        yield "license", license_id
    if datasets := _datasets(config["provenance"]):
        yield "datasets", datasets
    # A value that is no number would make the hub refuse the card; the table has it.
    measured = [result for result in config.get("results", []) if _is_number(result["value"])]
    if measured:
        yield "model-index", [{"name": title, "results": list(_by_dataset(measured))}]


def _datasets(provenance: Mapping[str, Any]) -> list[str]:
    """Return the datasets on the hub that a trainer's notes name as its images."""
    data = provenance.get("data")
    urls = [data.get(side) for side in ("source", "target")] if isinstance(data, Mapping) else []
    return [name for name in dict.fromkeys(hub_dataset(url or "") for url in urls) if name]


def _by_dataset(results: Iterable[Result]) -> Iterator[Mapping[str, Any]]:
    """Yield the results of each dataset in the form of a model-index."""
    found = dict[str, list[Result]]()
    for result in results:
        found.setdefault(str(result["protocol"].get("dataset", "")), []).append(result)
    for url, measured in found.items():
        metrics = [
            {
                "type": result["metric"],
                "name": result.get("name") or result["metric"],
                "value": result["value"],
                "args": {name: value for name, value in result["protocol"].items() if name != "dataset"},
            }
            for result in measured
        ]
        # The hub wants a type for each dataset, and there is one for those of the hub only.
        dataset = {"name": url or "not named", "type": hub_dataset(url) or "other"}
        yield {"task": {"type": _TASK, "name": "Image-to-Image"}, "dataset": dataset, "metrics": metrics}


def _describe(entry: Mapping[str, Any]) -> str:
    architecture = entry["architecture"]
    return ", ".join(f"{name} {value}" for name, value in architecture.items())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _number(value: Any) -> str:
    return f"{value:.5g}" if _is_number(value) else "no finite number"


def _cell(text: str) -> str:
    """Return text that stays in its cell of a table."""
    return _printable(text).replace("|", "\\|")


def _printable(text: str) -> str:
    """Return text with escapes, as in JSON and YAML, for characters that cannot be shown."""
    return "".join(
        character
        if character.isprintable()
        else f"\\u{ord(character):04x}"
        if ord(character) < 0x10000
        else f"\\U{ord(character):08x}"
        for character in text
    )


def _yaml(value: Any) -> str:
    """Return plain data as YAML on one line, which is JSON but for two things.

    YAML takes a number with an exponent for text where it has no dot, and has escapes for more characters.
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(str(name))}: {_yaml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, float) and math.isfinite(value):
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")
    return _printable(json.dumps(value, ensure_ascii=False))
