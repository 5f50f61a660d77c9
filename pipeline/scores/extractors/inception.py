"""Inception v3 as FID's weights need it: `pt_inception-2015-12-05-6726825d.pth`, from TensorFlow's graph of 2015.

Szegedy et al. 2015, https://arxiv.org/abs/1512.00567. It differs from torchvision's in its poolings: averages leave
padding out, and the last block takes a maximum. Modules have the names of these weights. The packages that have this
network (pytorch-fid, torch-fidelity) need torchvision, whose compiled part loads beside one build of torch alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 299
"""Side of its input, in pixels."""
SIZE = 2048
"""Number of its pooled features."""

_Kernel = int | tuple[int, int]


class _Convolution(nn.Module):
    """Convolution, batch norm and ReLU."""

    def __init__(self, takes: int, gives: int, kernel: _Kernel, stride: int = 1, padding: _Kernel = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(takes, gives, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(gives, eps=0.001)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x_NCHW)))


def _same(takes: int, gives: int, kernel: _Kernel = 1) -> _Convolution:
    """Return a convolution that keeps height and width."""
    padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    return _Convolution(takes, gives, kernel, padding=padding)


def _average(x_NCHW: Tensor) -> Tensor:
    return functional.avg_pool2d(x_NCHW, 3, stride=1, padding=1, count_include_pad=False)


class _Block(nn.Module):
    """Branches whose results are concatenated: chains of convolutions, and a pooling."""

    branches: Sequence[Sequence[str | tuple[str, str]]]
    """Names of the convolutions of each branch; a pair are two side by side."""

    def pooled(self, x_NCHW: Tensor) -> Tensor:
        return getattr(self, "branch_pool")(_average(x_NCHW))  # noqa: B009

    def forward(self, x_NCHW: Tensor) -> Tensor:
        made = []
        for names in self.branches:
            y = x_NCHW
            for name in names:
                y = torch.cat([getattr(self, n)(y) for n in ([name] if isinstance(name, str) else name)], 1)
            made.append(y)
        return torch.cat([*made, self.pooled(x_NCHW)], 1)


class _A(_Block):
    branches = (
        ["branch1x1"], ["branch5x5_1", "branch5x5_2"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"],
    )  # fmt: skip

    def __init__(self, takes: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = _same(takes, 64)
        self.branch5x5_1, self.branch5x5_2 = _same(takes, 48), _same(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _same(takes, 64), _same(64, 96, 3)
        self.branch3x3dbl_3 = _same(96, 96, 3)
        self.branch_pool = _same(takes, pool)


class _Halving(_Block):
    """Block that halves height and width, whose pooling is a maximum."""

    def pooled(self, x_NCHW: Tensor) -> Tensor:
        return functional.max_pool2d(x_NCHW, 3, stride=2)


class _B(_Halving):
    branches = (["branch3x3"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"])

    def __init__(self, takes: int) -> None:
        super().__init__()
        self.branch3x3 = _Convolution(takes, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _same(takes, 64), _same(64, 96, 3)
        self.branch3x3dbl_3 = _Convolution(96, 96, 3, stride=2)


class _C(_Block):
    branches = (
        ["branch1x1"], [f"branch7x7_{i}" for i in range(1, 4)], [f"branch7x7dbl_{i}" for i in range(1, 6)],
    )  # fmt: skip

    def __init__(self, takes: int, inside: int) -> None:
        super().__init__()
        wide, high = (1, 7), (7, 1)
        self.branch1x1 = _same(takes, 192)
        self.branch7x7_1, self.branch7x7_2 = _same(takes, inside), _same(inside, inside, wide)
        self.branch7x7_3 = _same(inside, 192, high)
        self.branch7x7dbl_1, self.branch7x7dbl_2 = _same(takes, inside), _same(inside, inside, high)
        self.branch7x7dbl_3, self.branch7x7dbl_4 = _same(inside, inside, wide), _same(inside, inside, high)
        self.branch7x7dbl_5 = _same(inside, 192, wide)
        self.branch_pool = _same(takes, 192)


class _D(_Halving):
    branches = (["branch3x3_1", "branch3x3_2"], [f"branch7x7x3_{i}" for i in range(1, 5)])

    def __init__(self, takes: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = _same(takes, 192), _Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = _same(takes, 192), _same(192, 192, (1, 7))
        self.branch7x7x3_3, self.branch7x7x3_4 = _same(192, 192, (7, 1)), _Convolution(192, 192, 3, stride=2)


class _E(_Block):
    branches = (
        ["branch1x1"],
        ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")],
        ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")],
    )

    def __init__(self, takes: int) -> None:
        super().__init__()
        self.branch1x1 = _same(takes, 320)
        self.branch3x3_1 = _same(takes, 384)
        self.branch3x3_2a, self.branch3x3_2b = _same(384, 384, (1, 3)), _same(384, 384, (3, 1))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _same(takes, 448), _same(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = _same(384, 384, (1, 3)), _same(384, 384, (3, 1))
        self.branch_pool = _same(takes, 192)


class _LastE(_E):
    def pooled(self, x_NCHW: Tensor) -> Tensor:
        return self.branch_pool(functional.max_pool2d(x_NCHW, 3, stride=1, padding=1))


# In the order in which the images go through them, with a pooling where there is one.
_HEAD = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "")
_TRUNK = tuple(f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"))


class Inception(nn.Module):
    """Network from [N, 3, 299, 299], from -1 to 1, to its pooled features [N, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3, self.Conv2d_2b_3x3 = _Convolution(32, 32, 3), _same(32, 64, 3)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = _same(64, 80), _Convolution(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _A(192, 32), _A(256, 64), _A(288, 64)
        self.Mixed_6a = _B(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_C(768, n) for n in (128, 160, 160, 192))
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = _D(768), _E(1280), _LastE(2048)
        self.fc = nn.Linear(SIZE, 1008)  # of the weights; no feature comes from it

    def forward(self, x_NCHW: Tensor) -> Tensor:
        for name in (*_HEAD, *_TRUNK):
            x_NCHW = getattr(self, name)(x_NCHW) if name else functional.max_pool2d(x_NCHW, 3, stride=2)
        return x_NCHW.mean((2, 3))
