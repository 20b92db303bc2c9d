"""Patches of images, and back.

Shape suffixes: R content rows, N tokens of this modality; H height, W width, C colour channels.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Record, Tokenizer
from mmm.core.tokens import Piece
from mmm.modalities._pixels import MAX_PIXELS, archive, as_tensor, digest, header, jpeg, opened, plain, rows, stored, where
from mmm.modalities._processor import Processor, as_given

if TYPE_CHECKING:
    import PIL.Image

Preprocess = Literal["own", "processor", "given"]

FIT_IMAGES = 4096
"""Training images that mean and standard deviation are taken from, evenly spread."""


class ImageTokenizer(Tokenizer):
    """[CLS] [registers] patches, row by row. Patch rows are (p q c) as MAE cuts them, normalised by mean and std.

    ``raw`` may be a path; a (path, row) of an .npz file; a PIL image; a float array or tensor (H, W) or (C, H, W) in 0..1; a
    uint8 one (H, W) or (H, W, C). All of them become 8-bit pixels: EXIF orientation is applied, transparency is laid over
    white, 16-bit grey is divided by 257, palettes, CMYK and colour against grey are converted (ITU-R 601); ICC profiles are not
    used; of a multi-picture JPEG the first is taken.

    CLS and registers are rows of zeros at position (-1, -1); they cannot be masked.

    With ``preprocess: processor`` or ``given``, floats stay floats, nothing goes through 8 bits, and a PIL image is taken as
    the other library takes it. What is over whole patches at the right and at the bottom is left out, as a convolution does.

    Args:
        side: the ``size`` of ``Image``. specials: CLS and registers together. The others: see ``Image``.

    Attributes:
        processor: of another library, where ``preprocess`` names one.
    """

    coordinates = 2
    suffixes = (".png", ".jpg", ".jpeg", ".webp", ".npz")

    def __init__(
        self,
        side: int | None,
        patch: int,
        channels: int,
        specials: int,
        augment: bool,
        scale: tuple[float, float],
        flip: float,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        preprocess: Preprocess = "own",
    ):
        self.preprocess = preprocess
        self.processor: Processor | None = None
        self.side, self.patch, self.channels, self.specials = side, patch, channels, specials
        self.augment, self.scale, self.flip = augment, tuple(scale), flip
        self.mean, self.std = mean, std

    @property
    def row(self) -> int:
        """Numbers a content row."""
        return self.patch**2 * self.channels

    def tokenize(self, raw: Any, draw: Draw | None = None) -> Piece:
        """The patches of one image.

        With ``augment`` and a draw: a random crop of a share ``scale`` of the area, resized to ``side``, and a random flip.
        Without: the shorter side is resized and the middle cut out. Where ``side`` is None: the middle is cut to whole patches,
        nothing is resized, and only the flip is random.

        With ``preprocess: processor``, everything that is not random is the processor's; what is random is as above, normalised
        by the processor's mean and std.

        Raises:
            BadRecord: the file, or the row of it, is no image that can be read. ValueError: nor is the array.
        """
        if self.preprocess == "own" or (draw is not None and self.augment):
            pixels = self._normalise(self._pixels(raw, draw))
        else:
            pixels = self._processed(raw)
        height, width = pixels.shape[1] // self.patch, pixels.shape[2] // self.patch
        positions, maskable = _grid(height, width, self.specials)
        content = torch.zeros(self.specials + height * width, self.row)
        # einops would write each pixel twice, and small images are many.
        patches_hwpqc = content[self.specials :].view(height, width, self.patch, self.patch, self.channels)
        patches_hwpqc.copy_(pixels.reshape(self.channels, height, self.patch, width, self.patch).permute(1, 3, 2, 4, 0))
        return Piece(content=content, positions=positions, maskable=maskable)

    def detokenize(self, content_R: Tensor) -> Tensor:
        """(C, H, W) in 0..1 of the rows of one square image; see ``unpatchify`` for others."""
        patches = len(content_R) - self.specials
        side = round(patches**0.5) if patches > 0 else 0
        if side**2 != patches:
            raise ValueError(f"{patches} patches make no square; call unpatchify(rows, (height, width)) with the grid")
        return self.unpatchify(content_R[self.specials :], (side, side))

    def unpatchify(self, patches_R: Tensor, grid: tuple[int, int]) -> Tensor:
        """(C, H, W) in 0..1 of patch rows (no specials) that lie in a grid of (height, width) patches."""
        pixels = rearrange(
            patches_R.float(), "(h w) (p q c) -> c (h p) (w q)", h=grid[0], w=grid[1], p=self.patch, q=self.patch
        )
        mean, std = self._statistics()
        return (pixels * std + mean).clamp(0, 1)

    def empty(self) -> Tensor:
        return torch.zeros(0, self.row)

    def length(self, record: Record) -> int:
        if self.side is not None:
            return self.specials + (self.side // self.patch) ** 2
        width, height = opened(record.raw).size  # only the header is read; EXIF may swap them, which leaves the product
        return self.specials + (height // self.patch) * (width // self.patch)

    def records(self, path: Path) -> Iterator[Record]:
        """The records of one file.

        An image file is one record. An .npz file holds ``images`` (uint8: N x H x W, or N x H x W x C), or ``jpeg`` (the bytes
        of all files in one array) and ``offsets`` (N + 1); under ``labels`` a label a row if there are any. Rows are numbered
        from 0. The identity is a hash of the file's bytes, or of the row's.

        Raises:
            BadRecord: not PNG, JPEG or WebP; animated; over ``MAX_PIXELS``; an .npz file without these arrays, or with objects.
        """
        if path.suffix.lower() != ".npz":
            data = path.read_bytes()
            header(io.BytesIO(data), path, None)
            yield Record(str(path), None, str(path), digest(data))
            return
        arrays = archive(str(path))
        for row in range(rows(arrays)):
            if "images" in arrays:
                image = arrays["images"][row]
                key = digest(repr(image.shape).encode() + image.tobytes())
            else:
                data = jpeg(arrays, row)
                header(io.BytesIO(data), path, row)
                key = digest(data)
            label = arrays["labels"][row].item() if "labels" in arrays else None
            yield Record(str(path), row, (str(path), row), key, label)

    def statistics_of(self, records: Sequence[Record]) -> tuple[list[float], list[float]]:
        """(mean, std) of each channel over the pixels of the records, at most ``FIT_IMAGES`` of them."""
        total, square, count = np.zeros(self.channels), np.zeros(self.channels), 0
        for record in records[:: max(1, math.ceil(len(records) / FIT_IMAGES))]:
            pixels = self._pixels(record.raw, None).double().flatten(1).numpy()
            total, square, count = total + pixels.sum(1), square + (pixels**2).sum(1), count + pixels.shape[1]
        if count == 0:
            raise ValueError("Image: no record to take mean and std from; give data, or mean and std")
        mean = total / count
        std = np.sqrt(np.maximum(square / count - mean**2, 0))
        if (std < 1e-6).any():
            raise ValueError("Image: all pixels of the training images are equal; nothing can be learned from them")
        return mean.tolist(), std.tolist()

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """mean and std, (C, 1, 1)."""
        if self.mean is None or self.std is None:
            raise ValueError("Image has no mean and std yet: call fit(records) or restore(assets) first")
        return _channels(tuple(self.mean)), _channels(tuple(self.std))

    def _normalise(self, pixels: Tensor) -> Tensor:
        mean, std = self._statistics()
        return (pixels - mean) / std

    def _processed(self, raw: Any) -> Tensor:
        """(C, H, W) as the model takes it: by its own processor, or as given."""
        assert self.side is not None
        with _named(raw):
            if self.preprocess == "given":
                pixels = as_given(raw, self.channels)
            elif self.processor is None:
                raise ValueError("Image has no processor yet: it comes with an import; call restore(assets) first")
            else:
                pixels = self.processor(raw, self.channels)
            if pixels.shape != (self.channels, self.side, self.side):
                made = "is given" if self.preprocess == "given" else "comes out of the model's image processor"
                raise ValueError(
                    f"{' x '.join(map(str, pixels.shape))} (channels, height, width) {made}, and the model reads "
                    f"{self.channels} x {self.side} x {self.side}"
                )
        whole = self.side - self.side % self.patch
        return pixels[:, :whole, :whole]

    def _pixels(self, raw: Any, draw: Draw | None) -> Tensor:
        """(C, H, W) in 0..1, cropped."""
        draw = draw.stream("augment") if draw is not None and self.augment else None
        with _named(raw):
            if draw is None and self.side is not None:
                array = stored(raw, self.side, self.channels)
                if array is not None:
                    return as_tensor(array) / 255
            image = plain(opened(raw), "L" if self.channels == 1 else "RGB")
            width, height = image.size
            if self.side is None and min(width, height) < self.patch:
                raise ValueError(f"{width} x {height} pixels are less than one patch of {self.patch}")
            if self.side is not None and self.side**2 * max(width, height) / min(width, height) > MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels are too narrow to be resized to {self.side} on the shorter side")
        if self.side is None:
            return self._whole_patches(image, draw)
        if draw is None:
            as_it_is = image.size == (self.side, self.side)
            pixels: Tensor = as_tensor(np.array(image)) if as_it_is else self._steady(image)
        else:
            with _seeded(draw.seed()):
                pixels = self._augmented(image)
        return pixels / 255

    def _whole_patches(self, image: PIL.Image.Image, draw: Draw | None) -> Tensor:
        width, height = (side - side % self.patch for side in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        pixels = as_tensor(np.array(image.crop((left, top, left + width, top + height)))) / 255
        return pixels.flip(2) if draw is not None and draw.uniform() < self.flip else pixels

    @cached_property
    def _steady(self) -> Any:
        return self._transform(is_training=False, crop_pct=1.0)

    @cached_property
    def _augmented(self) -> Any:
        return self._transform(is_training=True, scale=self.scale, hflip=self.flip, color_jitter=None)

    def _transform(self, **options: Any) -> Any:
        """One of timm's transforms, PIL image to uint8 tensor."""
        from timm.data.transforms_factory import create_transform

        assert self.side is not None
        size = (self.channels, self.side, self.side)
        return create_transform(size, interpolation="bicubic", normalize=False, **options)


@contextmanager
def _named(raw: Any) -> Iterator[None]:
    """What goes wrong with a raw value, told with its name."""
    try:
        yield
    except BadRecord:
        raise
    except (OSError, ValueError, SyntaxError) as e:  # PIL raises all three on broken files
        place = where(raw)
        raise (ValueError(f"image: {e}") if place is None else BadRecord(*place, str(e))) from e


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """timm draws from the global generators of ``random`` and torch's CPU only: they are lent to it and left as they were."""
    generator = torch.default_generator
    before, before_torch = random.getstate(), generator.get_state()
    random.seed(seed)
    generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
        generator.set_state(before_torch)


@lru_cache(maxsize=16)
def _channels(values: tuple[float, ...]) -> Tensor:
    """(C, 1, 1)."""
    return torch.tensor(values, device="cpu")[:, None, None]  # it is kept, whatever device is the default now


@lru_cache(maxsize=256)
def _grid(height: int, width: int, specials: int) -> tuple[Tensor, Tensor]:
    """(positions, maskable) of a grid of patches behind its specials."""
    places = torch.cartesian_prod(torch.arange(height, device="cpu"), torch.arange(width, device="cpu"))  # kept, as above
    maskable = torch.ones(specials + len(places), dtype=torch.bool, device="cpu")
    maskable[:specials] = False
    return torch.cat([torch.full((specials, 2), -1, device="cpu"), places]), maskable
