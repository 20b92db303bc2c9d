"""A model as a graph: a function of the content of one record, of any length.

Shape suffixes: R content rows, N tokens of the record, D width, V output size, C coordinates.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.layout import COORDINATES, Layout, Run
from mmm.core.tokens import Piece
from mmm.decoders.readout import Readout
from mmm.loaded import Loaded


@dataclass(frozen=True)
class Whole(Layout):
    """The layout of one record whose length is not a number yet."""

    @property
    def start_S(self) -> Tensor:  # type: ignore[override]
        return self.segment_T.new_zeros(1)

    @property
    def place_T(self) -> Tensor:  # type: ignore[override]
        return torch.arange(self.segment_T.shape[0], device=self.segment_T.device)

    def cut(self, s: int) -> Layout:
        return self


class Record(nn.Module):
    """A model as a function of one record of one modality.

    Args:
        training: the model. name: of the modality.
        example: a record. Where tokens have several coordinates and are no ids, every record's stand where its own do.
    """

    def __init__(self, training: Loaded, name: str, example: Piece):
        super().__init__()
        self.model, self.number = training.model, training.model.names.index(name)
        self.modality: Any = training.modalities[name]
        tokenizer = self.modality.tokenizer
        self.coordinates = tokenizer.coordinates
        self.convolved = () if tokenizer.rowwise else tuple(zip(tokenizer.kernels, tokenizer.strides, strict=True))
        self.fixed = self.coordinates > 1 and tokenizer.choices is None
        self.head = head_at(training, name)
        if self.fixed:
            maskable_N = torch.ones(len(example), dtype=torch.bool) if example.maskable is None else example.maskable
            self.register_buffer("position_NC", example.position_NC.contiguous())
            self.register_buffer("maskable_N", maskable_N)

    def forward(self, content: Tensor) -> tuple[Tensor, ...]:
        """(hidden_ND,) or (hidden_ND, logits_NV) of the content of one record."""
        rows = tokens = content.shape[0]
        for kernel, stride in self.convolved:
            tokens = (tokens - kernel) // stride + 1
        layout = self.layout(rows, tokens)
        x_ND = self.modality.embed(content, layout, torch.zeros_like(layout.maskable_T))
        if self.model.modality_vector is not None:
            x_ND = x_ND + self.model.modality_vector(layout.modality_T)
        hidden_ND = self.model.encoder(x_ND, layout).x_KD
        return (hidden_ND,) if self.head is None else (hidden_ND, self.model.heads[self.head](hidden_ND))

    def layout(self, rows: int, tokens: int) -> Whole:
        """Where the tokens of one record stand: one after the other, or as those of every record do."""
        place_N = torch.arange(tokens)
        zero_N, zero_S = torch.zeros_like(place_N), torch.zeros(1, dtype=torch.int64)
        if self.fixed:
            position_NC, maskable_N = self.position_NC, self.maskable_N
        else:  # several coordinates of ids: the last is the place, the others are those of a first text
            last_N1 = place_N.float()[:, None]
            position_NC = last_N1.expand(-1, COORDINATES)
            if self.coordinates > 1:
                position_NC = nn.functional.pad(last_N1, (COORDINATES - 1, 0))
            maskable_N = torch.ones_like(place_N, dtype=torch.bool)
        runs = (Run(0, rows, tokens),)
        return Whole(
            zero_N + self.number, position_NC, zero_N, place_N, maskable_N, zero_S, zero_S, zero_S, zero_S, (tokens,), runs
        )  # fmt: skip


def head_at(training: Loaded, name: str) -> str | None:
    """The head that answers at a modality's tokens; None without one, or where a decoder stands before it."""
    if not isinstance(training.model.decoder, Readout):
        return None
    try:
        return training.head_of(name)
    except ValueError:
        return None


def trace(record: Record, piece: Piece, path: Path) -> None:
    """Write the graph, traced over one record; raises ValueError where it then holds for this length alone."""
    outputs = ["hidden", "logits"][: 1 + (record.head is not None)]
    dynamic = None if record.fixed else {"content": {0: "rows"}}
    noise = logging.getLogger("onnxscript")
    before, noise.level = noise.level, logging.ERROR
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                record,
                (piece.content,),
                dynamo=True,
                input_names=["content"],
                output_names=outputs,
                dynamic_shapes=dynamic,
                verbose=False,
            )
    finally:
        noise.level = before
    assert program is not None
    if not record.fixed and isinstance(program.model.graph.inputs[0].shape[0], int):
        raise ValueError("the front end or the encoder fixes the number of rows while it is traced")
    limits = program.exported_program.range_constraints.values() if program.exported_program is not None else ()
    longest = getattr(record.modality.tokenizer, "max_length", None)
    for limit in limits:
        if longest is not None and bool(limit.upper < longest):
            raise ValueError(f"the graph would hold for records of up to {limit.upper} rows, and the model reads {longest}")
    program.save(path)
