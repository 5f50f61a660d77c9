from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.scores.agreement import agreement, box_recall, cosine, mean_iou

NOISE = torch.Generator().manual_seed(0)


def test_mean_iou_is_that_of_a_plain_count() -> None:
    one, other = (torch.randn(5, 9, 7, generator=NOISE) for _ in range(2))
    a, b = one.argmax(0).numpy(), other.argmax(0).numpy()
    there = [k for k in range(5) if (a == k).any() or (b == k).any()]
    expected = np.mean([((a == k) & (b == k)).sum() / ((a == k) | (b == k)).sum() for k in there])
    assert mean_iou(one, other) == pytest.approx(float(expected), abs=1e-12)
    assert mean_iou(one, one) == 1.0


def test_a_map_of_one_channel_has_two_classes() -> None:
    one, other = torch.tensor([[[1.0, -1.0, -1.0, -1.0]]]), torch.tensor([[[1.0, 1.0, -1.0, -1.0]]])
    assert mean_iou(one, other) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert mean_iou(-one.abs(), -other.abs()) == 1.0


def test_recall_counts_boxes_of_the_source_that_are_found_once() -> None:
    boxes = torch.tensor([[0, 0, 10, 10, 0.9, 1], [20, 20, 30, 30, 0.8, 1], [50, 50, 60, 60, 0.3, 1.0]])
    assert box_recall(boxes, boxes) == 1.0
    assert box_recall(boxes, boxes[:1]) == 0.5, "the third is too uncertain to count"
    other_class = boxes.clone()
    other_class[1, 5] = 2
    assert box_recall(boxes, other_class) == 0.5
    twice = boxes[[0, 0]]
    assert box_recall(twice, boxes[:1]) == 0.5, "a box is taken once"
    moved = boxes + torch.tensor([4, 0, 4, 0, 0, 0.0])
    assert box_recall(boxes, moved) == 0.0, "an overlap of 6 in 14"
    assert box_recall(boxes[:, :4], boxes[:2, :4]) == pytest.approx(2 / 3), "without scores all count"
    assert box_recall(boxes, boxes[:0]) == 0.0
    assert math.isnan(box_recall(boxes[:0], boxes))


def test_cosine() -> None:
    assert cosine(torch.tensor([1.0, 0]), torch.tensor([3.0, 0])) == 1.0
    assert cosine(torch.tensor([1.0, 0]), torch.tensor([0, 2.0])) == 0.0
    assert math.isnan(cosine(torch.zeros(2), torch.ones(2)))


def test_the_form_of_what_a_model_gives_decides() -> None:
    assert agreement(torch.ones(1, 4), 2 * torch.ones(1, 4)) == pytest.approx(1.0)
    assert agreement(torch.ones(1, 1, 4), torch.ones(1, 2, 4)) == 0.0, "boxes without an area overlap nothing"
    assert math.isnan(agreement(torch.full((1, 4), math.nan), torch.ones(1, 4)))
    for wrong in (torch.ones(4), torch.ones(2, 4), torch.ones(1, 1, 1, 1, 1)):
        with pytest.raises(RuntimeError, match="must give classes of pixels"):
            agreement(wrong, wrong)
    with pytest.raises(RuntimeError, match="boxes of 3 numbers"):
        agreement(torch.ones(1, 1, 3), torch.ones(1, 1, 3))
