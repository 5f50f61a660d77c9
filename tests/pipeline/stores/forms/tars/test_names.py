from __future__ import annotations

import posixpath
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stores.forms.tars.index import named
from pipeline.stores.forms.tars.names import key_of, sample_name

OF_WEBDATASET = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
KEYS = st.text(st.one_of(st.sampled_from("./_%-a2E\n"), st.characters(codec="utf-8")), max_size=12)


@given(key=KEYS)
@settings(max_examples=200)
def test_a_name_is_taken_apart_as_webdataset_does_it_and_gives_its_key_back(key: str) -> None:
    name = sample_name(key)
    assert key_of(name) == key
    matched = OF_WEBDATASET.match(f"{name}.jpg")
    assert matched
    assert matched.groups() == (name, "jpg") == named(f"{name}.jpg")
    path = posixpath.normpath(f"/out/{name}.jpg")  # as it is unpacked
    assert path == f"/out/{name}.jpg"


@given(one=KEYS, other=KEYS)
def test_no_two_keys_share_a_name(one: str, other: str) -> None:
    assert (sample_name(one) == sample_name(other)) == (one == other)
