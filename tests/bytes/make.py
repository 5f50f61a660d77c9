"""Make a small output of every job and list the sha256 of its objects in FOLDER/sums.json: `python make.py FOLDER`.

It uses the jobs through their command lines alone, so it runs with any version of the code.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from yaml import safe_dump

_TRAIN = {
    "pix2pix": "--input pairs --objective pix2pix",
    "cyclegan": "--input photos --input_b maps --objective cyclegan --gan_loss lsgan --discriminator.in_channels 3",
}
_SMALL = """
    --global_batch 2 --load_size 36 --crop_size 32 --steps 3 --epochs 1 --decay_epochs 1 --precision fp32 --trunk direct
    --generator.kind resnet --generator.width 4 --generator.depth 1 --generator.norm instance
    --discriminator.width 4 --discriminator.layers 1 --workers 1 --cpus_per_worker 1
"""
_TRANSLATE = "--device cpu --precision fp32 --resources.threads 1 --local"


def main(folder: Path) -> None:
    inputs, outputs = folder / "in", folder / "out"
    _draw(inputs)
    places = {name: str(inputs / name) for name in ("pairs", "photos", "maps", "mixed")}
    _run("pack", "--input", str(inputs / "drawn"), "--output", places["pairs"], "--layout", "pairs", "--local")
    for name, said in _TRAIN.items():
        _run(
            "train",
            *(places.get(word, word) for word in said.split()),
            *_SMALL.split(),
            "--output",
            f"{outputs}/{name}",
        )
    bundle = f"{outputs}/cyclegan/bundle"
    common = ["--limits.rows", "4", "--budget.share", "0.9"]
    source = ["--input", places["mixed"], *common]
    _run("pack", *source, "--output", f"{outputs}/pack", "--local")
    for form in ("parquet", "folder"):
        words = ["--bundle", bundle, "--direction", "a_to_b", "--form", form, "--output", f"{outputs}/{form}"]
        _run("translate", *source, *words, *_TRANSLATE.split())
    translator = {"bundle": bundle, "direction": "a_to_b", "probability": 0.5}
    (folder / "augment.yaml").write_text(safe_dump({"translators": {"there": translator}}))
    words = ["--config", f"{folder}/augment.yaml", "--sources", "one", places["mixed"], "--slot", "2026-10-01"]
    _run("augment", *words, *common, *_TRANSLATE.split(), "--output", f"{outputs}/augment")
    (folder / "sums.json").write_text(json.dumps(_sums(outputs), indent=1, sort_keys=True))


def _draw(inputs: Path) -> None:
    """Draw nine photographs of one size, their maps, both as A|B images, and two files that are no image."""
    drawn = np.random.default_rng(7)
    for name in ("drawn", "photos", "maps", "mixed"):
        (inputs / name).mkdir(parents=True)
    for i in range(9):
        photo, label = (drawn.integers(0, 256, (5, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1) for _ in "ab")
        Image.fromarray(photo).save(inputs / "photos" / f"{i}.png")
        shutil.copy(inputs / "photos" / f"{i}.png", inputs / "mixed")
        Image.fromarray(label).save(inputs / "maps" / f"{i}.png")
        Image.fromarray(np.concatenate([photo, label], 1)).save(inputs / "drawn" / f"{i}.png")
    (inputs / "mixed" / "empty.png").touch()
    (inputs / "mixed" / "text.jpg").write_text("no picture")


def _run(job: str, *arguments: str) -> None:
    if code := importlib.import_module(f"jobs.{job}").main(arguments):
        sys.exit(f"jobs.{job} ended with {code}")


def _sums(outputs: Path) -> dict[str, str]:
    """Return the sums of all objects but those that name a time or a place: records of attempts, logs, checkpoints.

    The sample of a bundle's card is left out, too: it is made as jobs.translate makes images, which was once not so,
    and may differ in a last bit.
    """
    kept = ("data", "_quarantine", "bundle", "images")
    names = sorted(path.relative_to(outputs) for path in outputs.rglob("*") if path.is_file())
    return {
        str(name): hashlib.sha256((outputs / name).read_bytes()).hexdigest()
        for name in names
        if len(name.parts) > 2 and name.parts[1] in kept and name.name != "sample.png"
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
