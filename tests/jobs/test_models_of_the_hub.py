"""A model on the Hugging Face hub translates; the hub's own client reads it, from a stand-in on loopback."""

from __future__ import annotations

from pathlib import Path

from tests import corpus, hub
from tests.chaos import child


def test_a_bundle_is_read_from_the_hub_once(tmp_path: Path) -> None:
    source = corpus.write_folder(str(tmp_path / "in"), 5)
    bundle = corpus.write_bundle(str(tmp_path / "bundle"))
    options = ["--input", source, "--local", "--trunk", "direct", "--precision", "fp32", "--budget.share", "1"]

    def translate(model: str, output: str, endpoint: str) -> None:
        where = {"HF_ENDPOINT": endpoint, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        arguments = [*options, "--bundle", model, "--output", str(tmp_path / output)]
        assert child.run("translate", arguments, where) == 0  # the client reads its endpoint once, when it is imported

    with hub.serving(Path(bundle)) as (endpoint, read):
        translate(f"hf://{hub.REPOSITORY}", "hub", endpoint)
        assert sorted(read) == ["a_to_b.safetensors", "config.json"]
        translate(f"hf://{hub.REPOSITORY}", "again", endpoint)
        assert len(read) == 2, "it was kept"
    translate(bundle, "disk", endpoint)
    assert corpus.contents(str(tmp_path / "hub")) == corpus.contents(str(tmp_path / "disk"))
    assert corpus.contents(str(tmp_path / "again")) == corpus.contents(str(tmp_path / "disk"))
