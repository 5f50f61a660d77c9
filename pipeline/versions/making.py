"""Making of a new version: claim its number, turn the job into one of the same inputs, and let readers see it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline import failpoints, storage
from pipeline.engine.job import Job
from pipeline.engine.records.card import publish_card
from pipeline.engine.records.layout import Output, is_finished, load_segments
from pipeline.engine.records.units import Segment
from pipeline.engine.run import IncompleteError
from pipeline.errors import UserError
from pipeline.recipe import fingerprint, models_of
from pipeline.report.dataset.croissant import publish_croissant
from pipeline.stores import Store, versions
from pipeline.stores.versions import WHOLE, Version
from pipeline.versions.members import members_of

log = logging.getLogger("transdomain")

Make = Callable[[str, str, bool], Job]
"""Function from a prefix and a label to the job that makes it there. Where the last argument is True, its recipe alone
is wanted, without the arithmetic, and nothing is to be measured for it."""


@dataclass(frozen=True)
class Making:
    """Version that is asked for: one to make, or those that are there already with these settings."""

    url: str
    """Output whose labels it is a version of."""
    labels: Sequence[str]
    make: Make
    version: Version | None
    """Version to make, or to go on with; None where there is nothing to make."""
    newest: Mapping[str, int]
    """Version of each label that is read now."""
    members: Mapping[str, Mapping[str, Store]]
    """Inputs of the version to make, by label and source."""
    segments: int
    """Number of segments that these inputs were planned in."""

    def job(self, label: str) -> Job:
        """Return the job that makes the version of one label."""
        if self.version is None:
            return self.make(versions.root_of(self.url, self.newest[label]), label, False)
        job = self.make(versions.root_of(self.url, self.version.number), label, False)
        # As names of files, keys could clash that did not in shards.
        are_names = any(work.sink.form.names_are_keys for work in job.workloads)
        return replace(job, sources=self.members[label], keys_are_known=not are_names)


def begin(url: str, kind: str, labels: Sequence[str], make: Make, dry_run: bool = False) -> Making:
    """Return what is to be made so that these labels of the output at `url` have the settings of the job of `make`.

    The same settings again go on with the version that was begun, or make none where it is the one that is read. A
    number is claimed exclusively, unless in a dry run, and after all checks: a refused request leaves no trace. Raises
    UserError where a label is not there or not finished, and as `members_of` does.
    """
    labels = tuple(sorted(set(labels)))
    probe = make(versions.root_of(url, 0), labels[0], True)
    recipe, wanted = probe.recipe, fingerprint(settings(probe.recipe))
    members = dict[str, Mapping[str, Store]]()
    models = {name: made["model"] for name, made in models_of(recipe).items()}
    while True:
        begun, whole = versions.begun(url), set(versions.marks(url))
        newest = versions.current([version for version in begun if version.number in whole])
        newest = {label: newest.get(label, 1) for label in labels}
        found = {label: _finished(url, kind, label, number) for label, number in newest.items()}
        if all(fingerprint(settings(each.recipe)) == wanted for of in found.values() for each in of):
            log.info("%s%s: made with these settings already", url, versions.of_slots(labels))
            return Making(url, labels, make, None, newest, {}, 0)
        for label, segments in found.items():
            of = Output(versions.root_of(url, newest[label]))
            members[label] = members_of(of, segments, probe.sources, set_aside_changed=probe.set_aside_changed)
        last, planned = max(newest.values()), sum(map(len, found.values()))
        open_ones = [each for each in begun if each.number not in whole and each.number > last]
        for version in open_ones:
            if (version.labels, version.settings) == (labels, wanted):
                log.info("%s: going on with version %d", url, version.number)
                return Making(url, labels, make, version, newest, members, planned)
        number = max([1, *(version.number for version in begun)]) + 1
        version = Version(number, labels, wanted, models, newest)
        failpoints.point("before version")
        if dry_run or storage.create(versions.record_url(url, number), versions.encode_version(version)):
            failpoints.point("after version")
            return Making(url, labels, make, version, newest, members, planned)


def settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a recipe that a user asks for: without arithmetic and versions of libraries."""
    asked = {name: value for name, value in recipe.items() if name not in ("arithmetic", "versions")}
    for several in ("translators", "chain"):
        if several in asked:
            asked[several] = {name: settings(made) for name, made in asked[several].items()}
    return asked


def _finished(url: str, kind: str, label: str, number: int) -> list[Segment]:
    """Return the segments of a label of a version. Raises UserError where there is nothing that could be made anew."""
    output, what = Output(versions.root_of(url, number)), f"{url}{versions.of_slots([label])}"
    segments = load_segments(output)
    if segments and segments[0].job != kind:
        raise UserError(f"{url} is the output of jobs.{segments[0].job}, not of jobs.{kind}; give another output")
    own = [segment for segment in segments if segment.label == label]
    if not own and label == WHOLE:
        raise UserError(f"{url}: nothing is made there yet that could have a new version; leave out --new_version")
    if not own:
        known = sorted(segment.label for segment in segments)
        there = f"there are {', '.join(known[-5:])}{' and older ones' * (len(known) > 5)}" if known else "there is none"
        raise UserError(f"{url}: has no slot {label}; {there}")
    committed, retired = output.committed(), output.retired_segments()
    if not all(is_finished(segment, committed) for segment in own):
        how = f"run it with --slot {label} first" if label else "finish it first, without --new_version"
        raise UserError(f"{what}: not finished, and a new version replaces a whole one; {how}")
    if any(segment.number in retired for segment in own):
        raise UserError(f"{what}: its data was given up, and readers do not expect it back")
    if not any(segment.rows for segment in own):
        raise UserError(f"{what}: has no inputs, so there is nothing to make anew")
    return own


def switch(making: Making) -> str:
    """Let readers see the version that was made; return a line that says what they see.

    The mark of the version is created; the card is derived from the marks, again wherever a kill left it behind. Raises
    IncompleteError where the old version has grown since `begin` looked at it.
    """
    url, version = making.url, making.version
    if version:
        olds = {label: load_segments(Output(versions.root_of(url, n))) for label, n in making.newest.items()}
        if sum(each.label == label for label, old in olds.items() for each in old) != making.segments:
            raise IncompleteError(
                f"{url}: new inputs were translated there while its version {version.number} was made, which lacks "
                "them; run the same command again to add them"
            )
        failpoints.point("before mark")
        storage.create(versions.mark_url(url, version.number), versions.encode_version(version))
        failpoints.point("after mark")
    publish_card(Output(url))
    failpoints.point("after card")
    publish_croissant(Output(url))
    read = versions.current(versions.marked(url))
    told = [f"version {read.get(label, 1)}{versions.of_slots([label])}" for label in making.labels]
    line = f"{url}: {', '.join(told)} is read"
    if version and version.number not in read.values():
        return f"{line}: version {version.number} is whole, and a newer one was before it"
    old = functools.partial("older data stays until jobs.verify --input {} --keep_versions 1 --clean".format, url)
    return f"{line}; {old()}" if version else line
