"""README.md of a model bundle: a card for people, with the metadata that model hubs read."""

import json
from collections.abc import Mapping
from typing import Any

_TITLES = {"pix2pix": "pix2pix", "cyclegan": "CycleGAN"}


def model_card(config: Mapping[str, Any], *, with_sample: bool) -> str:
    """Return the card as Markdown, from the contents of config.json."""
    title = _TITLES.get(config["objective"], config["objective"])
    size = config["training_size"]
    rows = "\n".join(f"| `{name}` | {_describe(entry)} |" for name, entry in config["generators"].items())
    sample = "\n![Translations](sample.png)\n" if with_sample else ""
    provenance = json.dumps(config["provenance"], indent=2, sort_keys=True)
    return f"""---
library_name: pytorch
pipeline_tag: image-to-image
tags: [image-to-image, {config["objective"]}]
---
# {title} translator, {config["direction"].replace("_", " ")}
{sample}
Trained on crops of {size}×{size} pixels. Images go in and come out in [-1, 1].

| generator | architecture |
| --- | --- |
{rows}

```python
from gan_models import load_bundle

translated = load_bundle("path/of/this/folder")(image)  # a Pillow image
```

## Provenance
```json
{provenance}
```
"""


def _describe(entry: Mapping[str, Any]) -> str:
    architecture = entry["architecture"]
    return ", ".join(f"{name} {value}" for name, value in architecture.items())
