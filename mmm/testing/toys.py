"""Three small modalities and a small model: a test's neighbours for the part it is about.

Shape suffixes: T packed tokens, R content rows, N tokens of one modality, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.layout import Layout
from mmm.core.modality import Modality, Record, Tokenizer
from mmm.core.model import Model
from mmm.core.network import Decoder, Encoder
from mmm.core.tokens import Piece, Sample, Tokens, pack
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.nn.positions import sinusoidal


class _Numbers(Tokenizer):
    """A file of numbers, one record a line."""

    suffixes = (".numbers",)

    def records(self, path: Path) -> Iterator[Record]:
        for i, line in enumerate(path.read_bytes().splitlines()):
            try:
                raw = self.parse([float(word) for word in line.decode().split()])
            except ValueError as error:
                raise BadRecord(path, i, str(error)) from None
            yield Record(str(path), i, raw, line)

    def parse(self, numbers: list[float]) -> Any:
        raise NotImplementedError

    def length(self, record: Record) -> int:
        return len(self.tokenize(record.raw))


class _Ids(_Numbers):
    size = 17
    choices = torch.arange(1, 17)

    def parse(self, numbers: list[float]) -> list[int]:
        if not all(x.is_integer() for x in numbers):
            raise ValueError("an id is a whole number")
        return [int(x) for x in numbers]

    def tokenize(self, raw: Any, draw: Draw | None = None) -> Piece:
        ids = torch.tensor([0, *raw])
        if len(raw) == 0 or ids.min() < 0 or ids.max() >= self.size or not ids[1:].all():
            raise ValueError(f"ids {raw!r}: needs at least one, all of them in 1..{self.size - 1}")
        place = torch.arange(len(ids))
        return Piece(ids, place, units=(place + 1) // 2, maskable=place > 0)

    def detokenize(self, content_R: Tensor) -> list[int]:
        return content_R[1:].tolist()

    def empty(self) -> Tensor:
        return torch.zeros(0, dtype=torch.int64)


class _Grid(_Numbers):
    coordinates = 2

    def parse(self, numbers: list[float]) -> Tensor:
        if len(numbers) % 4:
            raise ValueError(f"{len(numbers)} numbers: needs four a patch")
        return torch.tensor(numbers).view(1, -1, 4)

    def tokenize(self, raw: Any, draw: Draw | None = None) -> Piece:
        if raw.ndim != 3 or raw.shape[2] != 4 or not raw.numel() or not raw.isfinite().all():
            raise ValueError(f"a picture of shape {tuple(raw.shape)}: needs (height, width, 4) finite numbers")
        h, w, _ = raw.shape
        grid = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        return Piece(raw.reshape(-1, 4), torch.stack(grid, -1).reshape(-1, 2))

    def detokenize(self, content_R: Tensor) -> Tensor:
        return content_R

    def empty(self) -> Tensor:
        return torch.zeros(0, 4)


class _Wave(_Numbers):
    rowwise = False

    def parse(self, numbers: list[float]) -> Tensor:
        return torch.tensor(numbers)

    def tokenize(self, raw: Any, draw: Draw | None = None) -> Piece:
        if len(raw) == 0 or len(raw) % 4 or not raw.isfinite().all():
            raise ValueError(f"{len(raw)} samples: needs finite ones, four a token")
        return Piece(raw, torch.arange(len(raw) // 4))

    def detokenize(self, content_R: Tensor) -> Tensor:
        return content_R

    def empty(self) -> Tensor:
        return torch.zeros(0)


class ToyIds(Modality):
    """Ids 1..16 behind a special token 0; two neighbours are one unit. Raw: a list of ids."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = _Ids()

    def build(self, width: int) -> None:
        self.table = nn.Embedding(self.tokenizer.size, width)
        self.mask = nn.Parameter(torch.randn(width))

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        x_ND = torch.where(hidden_N[:, None], self.mask, self.table(content_R))
        return x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], 1)

    def tied(self) -> Tensor:
        return self.table.weight


class ToyPatches(Modality):
    """A grid of vectors of four numbers, two coordinates. Raw: a (height, width, 4) tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer: Tokenizer = _Grid()

    def build(self, width: int) -> None:
        self.project = nn.Linear(4, width)
        self.mask = nn.Parameter(torch.randn(width))

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        x_ND = torch.where(hidden_N[:, None], self.mask, self.project(content_R.view(-1, 4)))
        return x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], self.tokenizer.coordinates)


class ToyWave(ToyPatches):
    """A wave whose front end makes one token of four samples: content that is not one row a token. Raw: a tensor of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = _Wave()


def toy_raws(records: int = 8) -> list[dict[str, Any]]:
    """Records that hold some or all of ``ids``, ``patches`` and ``wave``, of many lengths, the same every time."""
    raws = []
    for i in range(records):
        draw = Draw(7).at(i)
        n = 3 + int(draw.integers(20, 0))
        ids = (1 + draw.integers(16, 1, torch.arange(n))).tolist()
        patches = draw.uniform(2, torch.arange((2 + i % 4) * (3 + i % 3) * 4)).view(2 + i % 4, 3 + i % 3, 4)
        whole = {"ids": ids, "patches": patches, "wave": draw.uniform(3, torch.arange(4 * n))}
        keep = [("ids",), ("patches",), ("wave",), tuple(whole)][i % 4]
        raws.append({name: whole[name] for name in keep})
    return raws


def toys() -> dict[str, Modality]:
    """The three, by the names that ``toy_raws`` uses."""
    return {"ids": ToyIds(), "patches": ToyPatches(), "wave": ToyWave()}


def batch(modalities: Mapping[str, Modality], raws: Sequence[Mapping[str, Any]]) -> Tokens:
    """Raw records, tokenised and packed. Record i has the name i + 1, whatever its place in the batch."""
    samples = []
    for i, raw in enumerate(raws, 1):
        draw = Draw(0).stream("tokenize").at(i)
        samples.append(Sample({n: modalities[n].tokenizer.tokenize(r, draw.stream(n)) for n, r in raw.items()}, i))
    return pack(samples, {n: m.tokenizer for n, m in modalities.items()})


def tiny_model(
    modalities: Mapping[str, Modality], encoder: Encoder | None = None, decoder: Decoder | None = None, width: int = 32
) -> Model:
    """The modalities around two blocks with rotary positions and, by default, no decoder."""
    return Model(modalities, encoder or Transformer(width, 2, 4, rotary=2), decoder or Readout())
