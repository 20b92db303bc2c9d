"""The front end of wav2vec 2.0 and HuBERT: strided convolutions over samples, and positions from neighbours.

Shape suffixes: R content rows (samples), L samples of a piece, N tokens, D width, B pieces of one length, P padded tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.layout import Layout, Run

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
"""Of the convolutions of wav2vec 2.0 and HuBERT: a token every 320 samples, each made of 400."""


class Convolutions(nn.Module):
    """The feature encoder of wav2vec 2.0 and HuBERT: strided convolutions without padding, channels last.

    Args:
        width: channels. norm, bias: see ``Audio``. kernels, strides: of each convolution.
    """

    def __init__(
        self,
        width: int,
        norm: Literal["group", "layer"],
        bias: bool | None = None,
        kernels: Sequence[int] = KERNELS,
        strides: Sequence[int] = STRIDES,
    ):
        super().__init__()
        self.norm: Literal["group", "layer"] = norm
        self.bias = norm == "layer" if bias is None else bias
        self.layers = nn.ModuleList(
            _Convolution(width if i else 1, width, kernel, stride, norm if norm == "layer" or i == 0 else None, self.bias)
            for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True))
        )

    def forward(self, sample_R: Tensor, runs: Sequence[Run]) -> Tensor:
        """(N, width). Every piece by itself, neighbours of equal length together."""
        features, start = [], 0
        for rows, same in groupby(runs, key=lambda run: run.rows):
            pieces = len(list(same))
            x_BLD = sample_R[start : start + pieces * rows].view(pieces, rows, 1)
            start += pieces * rows
            for layer in self.layers:
                x_BLD = layer(x_BLD)
            features.append(x_BLD.flatten(0, 1))
        return torch.cat(features)


class _Convolution(nn.Module):
    """One of them with its norm and GELU, as products of the stretches of ``stride`` rows that its kernel is made of.

    On a CPU that is several times faster than a convolution with channels first, and LayerNorm needs no transposition.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int, norm: Literal["group", "layer"] | None, bias: bool):
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(width, channels, kernel))
        nn.init.kaiming_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.norm: nn.Module = nn.Identity()
        if norm == "layer":
            self.norm = nn.LayerNorm(width)
        elif norm == "group":
            self.norm = nn.GroupNorm(width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        kernel, stride = self.weight.shape[2], self.stride
        length = (x_BLD.shape[1] - kernel) // stride + 1
        whole = kernel // stride * stride
        products = []
        for tap in range(0, whole, stride):
            stretches = x_BLD[:, tap : tap + length * stride].reshape(len(x_BLD), length, -1)
            weight = self.weight[:, :, tap : tap + stride].mT.flatten(1)
            products.append(F.linear(stretches, weight, self.bias if tap == 0 else None))
        for tap in range(whole, kernel):
            products.append(F.linear(x_BLD[:, tap::stride][:, :length], self.weight[:, :, tap]))
        y_BLD = sum(products[1:], products[0])
        y_BLD = self.norm(y_BLD.mT).mT if isinstance(self.norm, nn.GroupNorm) else self.norm(y_BLD)
        return F.gelu(y_BLD)


@dataclass
class Neighbours:
    """Convolutions over neighbouring tokens, which tell them their positions.

    Args:
        kernel: tokens one of them reads. groups: of channels. depth: one after the other.
        norm: "weight": of their weights (wav2vec 2.0, HuBERT); "layer": a LayerNorm without parameters after each of them
            (data2vec, arXiv:2202.03555).
    """

    kernel: int = 128
    groups: int = 16
    depth: int = 1
    norm: Literal["weight", "layer"] = "weight"


def conv_positions(width: int, neighbours: Neighbours) -> nn.Module:
    """What is to be added to (x_ND, layout_N).

    Raises:
        ValueError: the width is no multiple of the groups, or a number is below 1.
    """
    if min(neighbours.kernel, neighbours.groups, neighbours.depth) < 1:
        raise ValueError(f"positions by convolution: {neighbours} needs 1 or more of each")
    if neighbours.depth == 1:
        return ConvPositions(width, neighbours)
    return _Stack([ConvPositions(width, neighbours) for _ in range(neighbours.depth)])


class _Stack(nn.Module):
    def __init__(self, layers: list[ConvPositions]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x_ND: Tensor, layout_N: Layout) -> Tensor:
        for layer in self.layers:
            x_ND = layer(x_ND, layout_N)
        return x_ND


class ConvPositions(nn.Module):
    """Positions from neighbours: GELU of a normed convolution over the tokens of a piece, in groups of channels.

    Paper: wav2vec 2.0, arXiv:2006.11477, section 2 ("relative positional embedding").

    Args:
        width: D. neighbours: see there; its depth is not looked at.

    Raises:
        ValueError: the width is no multiple of the groups.
    """

    def __init__(self, width: int, neighbours: Neighbours):
        super().__init__()
        kernel, groups = neighbours.kernel, neighbours.groups
        if width % groups:
            raise ValueError(
                f"positions by convolution: the width {width} is no multiple of the {groups} groups of {neighbours}"
            )
        conv = nn.Conv1d(width, width, kernel, groups=groups)
        nn.init.normal_(conv.weight, std=2 / math.sqrt(kernel * width))
        plain = neighbours.norm == "layer"
        self.conv = conv if plain else nn.utils.parametrizations.weight_norm(conv, dim=2)
        self.norm = nn.LayerNorm(width, elementwise_affine=False) if plain else nn.Identity()

    def forward(self, x_ND: Tensor, layout_N: Layout) -> Tensor:
        """What is to be added to x_ND. All pieces are convolved at once, zeros between them as wide as the kernel reaches."""
        reach = self.conv.kernel_size[0] // 2
        if layout_N.runs:
            run_N = torch.cat([torch.full((run.tokens,), i) for i, run in enumerate(layout_N.runs)]).to(x_ND.device)
            place_N = torch.arange(x_ND.shape[0], device=x_ND.device) + reach * (run_N + 1)
            padded = x_ND.shape[0] + reach * (len(layout_N.runs) + 1)
        else:  # some tokens were dropped: the others stand where they stood, zeros between them
            each = int(layout_N.position_TC.max()) + 1 + reach
            place_N = layout_N.position_TC[:, -1].long() + each * layout_N.segment_T + reach
            padded = each * layout_N.segments + reach
        x_PD = x_ND.new_zeros(padded, x_ND.shape[1]).index_copy(0, place_N, x_ND)
        return F.gelu(self.norm(self._convolved(x_PD)[place_N - reach]))

    def _convolved(self, x_PD: Tensor) -> Tensor:
        if x_PD.device.type != "cpu" or self.conv.weight.shape[1] >= 16:
            return self.conv(x_PD.T[None])[0].T
        # oneDNN's bfloat16 kernels for AMX give wrong numbers for groups of 2 to 15 channels (torch 2.14): full precision.
        with torch.autocast("cpu", enabled=False):
            weight, bias = self.conv.weight.float(), self.conv.bias.float()
            return F.conv1d(x_PD.float().T[None], weight, bias, groups=self.conv.groups)[0].T.to(x_PD.dtype)
