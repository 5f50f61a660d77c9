import numpy as np
import pytest

from pipeline.demo.drawing import PALETTE, Label, draw_pair, draw_pairs
from pipeline.demo.drawing.parts import GABLE, SQUARE, Part, arch
from pipeline.demo.drawing.photograph import PAINTERS
from pipeline.demo.drawing.street import plan_street


def photograph(pair: np.ndarray) -> np.ndarray:
    return pair[:, : pair.shape[0]]


def label_map(pair: np.ndarray) -> np.ndarray:
    return pair[:, pair.shape[0] :]


@pytest.fixture(scope="module")
def pairs() -> list[np.ndarray]:
    return [draw_pair(0, index, 64) for index in range(60)]


@pytest.mark.parametrize("size", [16, 50, 128])
def test_a_pair_is_two_squares_side_by_side(size: int) -> None:
    pair = draw_pair(0, 0, size)
    assert pair.shape == (size, 2 * size, 3)
    assert pair.dtype == np.uint8


def test_a_pair_is_a_function_of_its_arguments() -> None:
    again = draw_pair(3, 7, 64)
    np.testing.assert_array_equal(draw_pair(3, 7, 64), again)
    assert not np.array_equal(draw_pair(3, 8, 64), again)
    assert not np.array_equal(draw_pair(4, 7, 64), again)


def test_the_size_does_not_change_the_street() -> None:
    small, large = label_map(draw_pair(0, 5, 64)), label_map(draw_pair(0, 5, 128))
    assert np.mean(np.any(large[1::2, 1::2] != small, axis=2)) < 0.15


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 8"):
        draw_pair(0, 0, 8)


def test_pairs_are_named_and_drawn_by_their_index() -> None:
    drawn = list(draw_pairs(3, 32, seed=9))
    assert [name for name, _ in drawn] == ["facade-0000", "facade-0001", "facade-0002"]
    np.testing.assert_array_equal(drawn[2][1], draw_pair(9, 2, 32))


def test_the_map_has_no_colour_outside_the_palette(pairs: list[np.ndarray]) -> None:
    palette = {tuple(colour) for colour in PALETTE.tolist()}
    assert len(palette) == len(Label)
    for pair in pairs:
        assert {tuple(colour) for colour in np.unique(label_map(pair).reshape(-1, 3), axis=0).tolist()} <= palette


def test_every_label_occurs_and_streets_differ(pairs: list[np.ndarray]) -> None:
    colours = np.concatenate([np.unique(label_map(pair).reshape(-1, 3), axis=0) for pair in pairs])
    assert len(np.unique(colours, axis=0)) == len(Label)
    assert len({label_map(pair).tobytes() for pair in pairs}) == len(pairs)


def test_every_planned_part_can_be_painted() -> None:
    labels = {part.label for index in range(100) for part in plan_street(np.random.default_rng(index))}
    assert labels == set(PAINTERS)


def test_parts_are_whole_and_inside_a_frame_around_the_picture() -> None:
    for index in range(100):
        for part in plan_street(np.random.default_rng(index)):
            left, top, right, bottom = part.box
            assert -0.3 < left < right < 1.3, part
            assert -0.3 < top < bottom < 1.1, part


def test_outlines_stay_inside_their_box() -> None:
    for outline in (SQUARE, GABLE, arch(0.3)):
        assert all(-1e-9 <= x <= 1 + 1e-9 and -1e-9 <= y <= 1 + 1e-9 for x, y in outline)
    assert Part(label=Label.WINDOW, box=(0, 0, 1, 1), wall=Label.BRICK).outline is SQUARE


def test_the_map_tells_more_of_the_photograph_than_the_mean_photograph_does(pairs: list[np.ndarray]) -> None:
    """The colour of each label, learned on 40 pairs, is closer to the other 20 photographs."""
    codes = PALETTE.astype(int) @ (65536, 256, 1)
    photographs = np.stack([photograph(pair) for pair in pairs]).astype(float)
    labels = np.stack([label_map(pair) for pair in pairs]).astype(int) @ (65536, 256, 1)
    colours = np.stack([photographs[:40][labels[:40] == code].mean(axis=0) for code in codes])
    ranks = np.argsort(codes)
    by_label = colours[ranks[np.searchsorted(codes[ranks], labels[40:])]]
    error_of_labels = np.abs(by_label - photographs[40:]).mean()
    error_of_mean = np.abs(photographs[:40].mean(axis=0) - photographs[40:]).mean()
    assert error_of_labels < 0.8 * error_of_mean
