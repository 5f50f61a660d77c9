"""Folders of any names, links, endings and contents: each file comes back once, or is named with its reason."""

from __future__ import annotations

import collections
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from jobs import pack, verify
from pipeline import images
from pipeline.engine.records.layout import Output, load_segments
from tests import corpus, processes
from tests.chaos.ground import Kind, keys_of
from tests.jobs.test_reading import saved

PICTURE = corpus.picture(1, 9, 14)
_WIDE = images.encode(PICTURE.astype(np.uint16) * 257, images.Encoding(codec="png"))
CONTENTS = {
    b"": "empty",
    b"no picture at all": "not an image",
    saved(PICTURE, "PNG"): "",
    saved(PICTURE[..., 0], "JPEG"): "",
    saved(PICTURE, "WEBP", lossless=True): "",
    saved(PICTURE, "JPEG")[:-60]: "corrupt",
    saved(PICTURE, "GIF"): "unsupported format",
    _WIDE: "unsupported type",
}
"""Contents of files, with the reason why they are quarantined; empty for what is taken."""
IMAGES = (".png", ".PNG", ".jpg", ".JPeG", ".webp", ".tif")
ENDINGS = (*IMAGES, "", ".", ".txt", ".png.txt", ".png~", ".HEIC.", " .png")
NAMES = (
    "a", "A", "_DSC1", "__x", ".dot", "..", "...", "..a", "a..", "a b", "x#y", "p%20q", "%2e", "n\nl", "t\tb",
    "\x1b[1m", "caf\u00e9", "cafe\u0301", "\u65e5\u672c", "\u202egnp", "-rf", "~", "*", "[x]", "{y}", "a::b", "s3:",
    "back\\slash", "'\"", "x" * 200, "data", "_SUCCESS",
)  # fmt: skip
MARK = "_SUCCESS"
"""Name that Spark and others leave beside data, which nobody needs to be told of."""
HIDDEN, NOWHERE, LOOP = "names that begin with a dot", "links that lead nowhere", "links to a folder that they are in"
OTHER = "files"
"""First word of the reasons for files that no form of store reads."""


class Planted(NamedTuple):
    """Something to put into a tree."""

    within: int
    """Number of the folder, among those that are there by then."""
    name: str
    what: str
    """file, folder, or the kind of a link."""
    choice: int
    """Which content, or which earlier file or folder a link leads to."""


WHAT = ("file", "file", "file", "file", "folder", "link to file", "link to folder", "link out", "dead link")
PLANTED = st.builds(
    Planted,
    st.integers(0, 5),
    st.builds(
        "{}{}".format,
        st.sampled_from(NAMES)
        | st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=6),
        st.sampled_from(ENDINGS),
    ),
    st.sampled_from(WHAT),
    st.integers(0, 7),
)


def plant(root: Path, planted: Sequence[Planted]) -> None:
    """Make a tree below `root`/in, which links may leave for `root`/out. What cannot have its name is left out."""
    folders, files = [str(root / "in")], [str(root / "in/first.png")]
    (root / "out/deep").mkdir(parents=True)
    os.makedirs(folders[0])
    for path in (files[0], f"{root}/out/o.png", f"{root}/out/deep/p.JPG"):
        Path(path).write_bytes(saved(PICTURE, "PNG"))
    for within, name, what, choice in planted:
        path = f"{folders[within % len(folders)]}/{name}"
        if os.path.lexists(path) or len(path.rsplit("/", 1)[1].encode()) > 255:
            continue
        if what == "file":
            Path(path).write_bytes(list(CONTENTS)[choice % len(CONTENTS)])
            files.append(path)
        elif what == "folder":
            os.mkdir(path)
            folders.append(path)
        else:
            targets = {
                "link to file": files[choice % len(files)],
                "link to folder": folders[choice % len(folders)],
                "link out": f"{root}/out",
                "dead link": "nowhere",
            }
            os.symlink(targets[what], path)


def looked_at(folder: str, within: str = "", above: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield each name below a folder, with what is to become of it: nothing said, or the reason why it is left out."""
    above = [*above, os.path.realpath(folder)]
    for entry in os.listdir(folder):
        path, name = f"{folder}/{entry}", f"{within}{entry}"
        if entry.startswith("."):
            yield name, HIDDEN
        elif entry == MARK and os.path.isfile(path):
            continue
        elif not os.path.exists(path):
            yield name, NOWHERE
        elif os.path.isdir(path):
            target = os.path.realpath(path)
            if os.path.islink(path) and any(f"{each}/".startswith(f"{target}/") for each in above):
                yield name, LOOP
            else:
                yield from looked_at(path, f"{name}/", above)
        elif not entry.lower().endswith(tuple(map(str.lower, IMAGES))):
            yield name, OTHER
        else:
            yield name, CONTENTS[Path(path).read_bytes()]


def said_of(output: str) -> collections.Counter[str]:
    """Return how many names an output says were passed over, by reason."""
    (segment,) = load_segments(Output(output))
    counts: collections.Counter[str] = collections.Counter()
    for each in segment.sources[""].passed_over:
        counts[OTHER if each.reason.startswith(f"{OTHER} ") else each.reason] += each.count
    return counts


def check(planted: Sequence[Planted], form: Kind) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        plant(Path(scratch), planted)
        expected = dict(looked_at(f"{scratch}/in"))
        passed_over = collections.Counter(why for why in expected.values() if why in (HIDDEN, NOWHERE, LOOP, OTHER))
        inputs = {name: why for name, why in expected.items() if why not in passed_over}
        for why in passed_over:
            event(why)
        output = f"{scratch}/packed"
        arguments = ["--input", f"{scratch}/in", "--output", output, "--form", form, "--local", "--limits.rows", "5"]
        assert pack.main([*arguments, "--budget.share", "1"]) == 0
        assert sorted(keys_of(output, form)) == sorted(inputs)
        aside = corpus.rows_below(f"{output}/_quarantine", ["key", "reason"])
        assert {row["key"]: row["reason"] for row in aside} == {name: why for name, why in inputs.items() if why}
        assert said_of(output) == passed_over
        assert verify.main(["--input", output]) == 0


def folder_of(*names: str, what: str = "file", choice: int = 2) -> list[Planted]:
    return [Planted(0, name, what, choice) for name in names]


LOOPS = [
    Planted(0, "d", "folder", 0), Planted(1, "e", "folder", 0), Planted(2, "up", "link to folder", 0),
    Planted(2, "side", "link to folder", 1), Planted(0, "short", "link to folder", 2), Planted(2, "x.png", "file", 3),
]  # fmt: skip


@settings(max_examples=4)
@given(st.lists(PLANTED, max_size=14), st.sampled_from(["parquet", "folder", "webdataset"]))
@example([each for name in NAMES for each in folder_of(f"{name}.png", f"{name}.JPeG", name)], "parquet")
@example([each for name in NAMES for each in folder_of(f"{name}.png")], "folder")
@example(LOOPS, "webdataset")
def test_each_file_comes_back_once_or_is_named(planted: list[Planted], form: Kind) -> None:
    check(planted, form)


@pytest.mark.long
@settings(max_examples=100)
@given(st.lists(PLANTED, max_size=40), st.sampled_from(["parquet", "folder", "webdataset"]))
def test_each_file_of_many_folders_comes_back_once_or_is_named(planted: list[Planted], form: Kind) -> None:
    check(planted, form)


def _as_nobody(source: str, output: str, log: str) -> None:
    """Pack as a user whom permissions bind: root reads what nobody may."""
    if os.geteuid() == 0:
        os.setegid(65534)
        os.seteuid(65534)
    with open(log, "w") as sys.stderr:
        code = pack.main(["--input", source, "--output", output, "--local"])
    sys.exit(code)


@pytest.mark.parametrize(("locked", "code"), [("tue", 2), ("wed/1.png", 1)], ids=["a folder", "a file"])
def test_what_may_not_be_read_is_named_and_nothing_is_complete_without_it(locked: str, code: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:  # that of pytest is root's alone
        root = Path(scratch)
        for folder in ("in/mon", "in/tue", "in/wed", "made"):
            (root / folder).mkdir(parents=True)
        for name in ("mon/0.png", "tue/0.png", "wed/0.png", "wed/1.png"):
            (root / "in" / name).write_bytes(saved(PICTURE, "PNG"))
        for path in (root, root / "made"):
            path.chmod(0o777)
        before = (root / "in" / locked).stat().st_mode
        (root / "in" / locked).chmod(0)
        log = root / "made/log"
        arguments = str(root / "in"), str(root / "made/out"), str(log)
        process = processes.context().Process(target=_as_nobody, args=arguments)
        process.start()
        process.join()
        said = log.read_text().strip().splitlines()
        assert process.exitcode == code, said
        assert f"in/{locked}: " in said[-1]
        assert "make it readable" in said[-1]
        assert not (root / "made/out/_SUCCESS").exists()
        (root / "in" / locked).chmod(before)
        assert pack.main(["--input", arguments[0], "--output", arguments[1], "--local"]) == 0
        assert len(corpus.rows(arguments[1])) == 4
