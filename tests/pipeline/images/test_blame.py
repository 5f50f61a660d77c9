from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from PIL import Image, ImageFile

from pipeline.images import BadImage, decode
from pipeline.images.formats import jpeg
from tests.pipeline.images.files import picture, png_chunk, saved

JPEG = saved(Image.fromarray(picture()), "JPEG")
PNG = saved(Image.fromarray(picture()), "PNG")

WITHOUT_MEMORY = """
import ctypes, errno, io, resource, numpy as np
from PIL import Image
from pipeline import images
big = Image.fromarray(np.random.default_rng(0).integers(0, 255, (1600, 1600, 3), np.uint8))
files = {}
for side in (64, 1600):
    wide = np.asarray(big.resize((side, side))).astype(np.uint16) * 257
    for codec in ("png", "tiff"):
        files[f"{codec} of 16 bits"] = images.encode(wide, images.Encoding(codec=codec))
    files["avif"] = images.encode(np.zeros((side, side, 3), np.uint8), images.Encoding(codec="avif"))
    for data in files.values():
        images.decode(data, wanted=None)
for format in ("PNG", "JPEG", "WEBP", "TIFF", "BMP"):
    options = {"PNG": {"compress_level": 0}, "TIFF": {"compression": "tiff_lzw"}}.get(format, {})
    buffer = io.BytesIO()
    big.resize((64, 64)).save(buffer, format, **options)
    images.decode(buffer.getvalue())
    buffer = io.BytesIO()
    big.save(buffer, format, **options)
    files[format] = buffer.getvalue()
del big, buffer
for format, data in files.items():
    ctypes.CDLL(None).malloc_trim(0)
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + 1_000_000, -1))
    try:
        found = str(images.decode(data, wanted=None).pixels.shape)
    except OSError as error:
        found = "MemoryError" if error.errno == errno.ENOMEM else type(error).__name__
    except Exception as error:
        found = type(error).__name__
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    print(format, found, images.decode(data, wanted=None).pixels.shape, sep="|")
"""


def test_memory_that_is_missing_is_never_the_fault_of_the_image() -> None:
    # What is freed goes back to the system, so that no large piece is left to decode into.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_MMAP_THRESHOLD_": "65536"}
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY], capture_output=True, text=True, env=environment, check=True
    )
    formats = ("png of 16 bits", "tiff of 16 bits", "avif", "PNG", "JPEG", "WEBP", "TIFF", "BMP")
    assert ended.stdout.splitlines() == [f"{format}|MemoryError|(1600, 1600, 3)" for format in formats]


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EIO, "I/O error"), OSError(errno.EMFILE, "many"), KeyboardInterrupt()]
)
def test_errors_of_the_machine_pass_through(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", fail)
    for data in (PNG, JPEG):
        with pytest.raises(type(error)):
            decode(data)


def test_memory_that_a_decoder_misses_in_its_own_words_is_missing_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("Insufficient memory (case 4)")

    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", fail)
    with pytest.raises(MemoryError):
        decode(JPEG)


def test_a_fault_that_passes_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    load, faults = ImageFile.ImageFile.load, [OSError("decoder error -2")]

    def fail_once(self: ImageFile.ImageFile) -> object:
        if faults:
            raise faults.pop()
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail_once)
    assert decode(PNG).pixels.shape == (24, 40, 3)


@pytest.mark.filterwarnings("error")
def test_warnings_do_not_matter_where_they_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    twice = png_chunk(b"acTL", bytes(8)) * 2
    assert decode(PNG[:33] + twice + PNG[33:]).pixels.shape == (24, 40, 3)
    for format in ("PNG", "JPEG", "WEBP", "TIFF", "BMP"):
        assert decode(saved(Image.fromarray(picture()), format)).pixels.shape == (24, 40, 3)


def test_the_same_bytes_have_the_same_message_in_every_process() -> None:
    files = [
        PNG[:-40],
        JPEG[:-40],
        b"BM" + bytes(60),
        b"II*\0" + bytes(60),
        saved(Image.new("L", (9, 9)), "TIFF")[:-30],
    ]
    code = (
        "import sys\nfrom pipeline import images\nfor data in eval(sys.argv[1]):\n    try:\n"
        "        images.decode(data)\n    except images.BadImage as bad:\n        print(bad.reason, bad)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, repr(files)]
    said = [subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout]
    here = []
    for data in files:
        try:
            decode(data)
        except BadImage as bad:
            here.append(f"{bad.reason} {bad}\n")
    assert said == ["".join(here)]
