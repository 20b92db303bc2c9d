"""The front end of wav2vec 2.0 and HuBERT: strided convolutions over samples, and positions from neighbours.

Shape suffixes: R content rows (samples), L samples of a piece, N tokens, D width, B pieces of one length, P padded tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.layout import Layout, Run, lengths_to_segments

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
"""Of the convolutions of wav2vec 2.0 and HuBERT: a token every 320 samples, each made of 400."""


class Convolutions(nn.Module):
    """The feature encoder of wav2vec 2.0 and HuBERT: seven strided convolutions without padding, channels last.

    Args:
        width: channels. norm: see ``Audio``.
    """

    def __init__(self, width: int, norm: Literal["group", "layer"]):
        super().__init__()
        self.layers = nn.ModuleList(
            _Convolution(width if i else 1, width, kernel, stride, norm if norm == "layer" or i == 0 else None)
            for i, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True))
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

    def __init__(self, channels: int, width: int, kernel: int, stride: int, norm: Literal["group", "layer"] | None):
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(width, channels, kernel))
        nn.init.kaiming_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(width)) if norm == "layer" else None
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


class ConvPositions(nn.Module):
    """Positions from neighbours: GELU of a weight-normed convolution over 128 tokens of a piece, in 16 groups of channels.

    Paper: wav2vec 2.0, arXiv:2006.11477, section 2 ("relative positional embedding").

    Raises:
        ValueError: the width is no multiple of the groups.
    """

    KERNEL, GROUPS = 128, 16

    def __init__(self, width: int):
        super().__init__()
        if width % self.GROUPS:
            raise ValueError(f"Audio(positions='conv'): the encoder's width {width} is no multiple of {self.GROUPS}")
        conv = nn.Conv1d(width, width, self.KERNEL, groups=self.GROUPS)
        nn.init.normal_(conv.weight, std=2 / math.sqrt(self.KERNEL * width))
        self.conv = nn.utils.parametrizations.weight_norm(conv, dim=2)

    def forward(self, x_ND: Tensor, layout_N: Layout) -> Tensor:
        """What is to be added to x_ND. All pieces are convolved at once, zeros between them as wide as the kernel reaches."""
        reach = self.KERNEL // 2
        if layout_N.runs:
            run_N = lengths_to_segments([run.tokens for run in layout_N.runs]).to(x_ND.device)
            place_N = torch.arange(len(x_ND), device=x_ND.device) + reach * (run_N + 1)
            padded = len(x_ND) + reach * (len(layout_N.runs) + 1)
        else:  # some tokens were dropped: the others stand where they stood, zeros between them
            each = int(layout_N.position_TC.max()) + 1 + reach
            place_N = layout_N.position_TC[:, -1].long() + each * layout_N.segment_T + reach
            padded = each * layout_N.segments + reach
        x_PD = x_ND.new_zeros(padded, x_ND.shape[1]).index_copy(0, place_N, x_ND)
        return F.gelu(self._convolved(x_PD)[place_N - reach])

    def _convolved(self, x_PD: Tensor) -> Tensor:
        if x_PD.device.type != "cpu" or self.conv.weight.shape[1] >= 16:
            return self.conv(x_PD.T[None])[0].T
        # oneDNN's bfloat16 kernels for AMX give wrong numbers for groups of 2 to 15 channels (torch 2.14): full precision.
        with torch.autocast("cpu", enabled=False):
            weight, bias = self.conv.weight.float(), self.conv.bias.float()
            return F.conv1d(x_PD.float().T[None], weight, bias, groups=self.GROUPS)[0].T.to(x_PD.dtype)
