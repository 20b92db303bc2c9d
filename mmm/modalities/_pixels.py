"""Images as they come: files, rows of .npz files, PIL images, arrays; all become 8-bit PIL images.

Shape suffixes: N images, H height, W width, C colour channels.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from mmm.core.errors import BadRecord

if TYPE_CHECKING:
    import PIL.Image

FORMATS = ("PNG", "JPEG", "WEBP")

MAX_PIXELS = 2**26
"""Of one image, before and after it is resized: 67 million."""

MAX_ARCHIVE = 2**33
"""Bytes of one .npz file, unpacked: 8 GiB."""


def digest(data: bytes) -> bytes:
    """The identity of an image: 16 bytes, whatever its size."""
    return hashlib.blake2b(data, digest_size=16).digest()


def where(raw: Any) -> tuple[Any, Any] | None:
    """(file, record) of a raw value that lies in one."""
    if isinstance(raw, (str, Path)):
        return raw, None
    return raw if isinstance(raw, tuple) else None


def opened(raw: Any) -> PIL.Image.Image:
    """A PIL image of any raw value; of files only the header is read yet."""
    import PIL.Image

    if isinstance(raw, PIL.Image.Image):
        return raw
    if isinstance(raw, (str, Path)):
        return header(raw, raw, None)
    if isinstance(raw, tuple):
        path, row = raw
        arrays = archive(path)
        if not 0 <= row < rows(arrays):
            raise BadRecord(path, row, f"the file has {rows(arrays)} rows, from 0")
        if "images" in arrays:
            return PIL.Image.fromarray(arrays["images"][row])
        return header(io.BytesIO(jpeg(arrays, row)), path, row)
    return _from_array(raw)


def header(source: Any, path: Any, record: Any) -> PIL.Image.Image:
    """An image file, opened and checked, not yet decoded."""
    import PIL.Image

    try:
        image = PIL.Image.open(source, formats=FORMATS)
    except (OSError, PIL.Image.DecompressionBombError, SyntaxError, ValueError) as e:
        reason = getattr(e, "strerror", None) or f"no image, or a broken one; formats: {', '.join(FORMATS)}"
        raise BadRecord(path, record, reason) from e
    if image.width * image.height > MAX_PIXELS:
        raise BadRecord(path, record, f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a JPEG with previews behind it, as phones write
        raise BadRecord(path, record, f"animated, {image.n_frames} frames; one image a file")  # type: ignore[attr-defined]
    return image


def plain(image: PIL.Image.Image, mode: Literal["L", "RGB"]) -> PIL.Image.Image:
    """The image upright, opaque, 8-bit, in ``mode``."""
    import PIL.Image
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"grey values from {values.min()} to {values.max()}; 0 to 65535 can be read")
        image = PIL.Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("a PIL image of mode F has no known range; give its pixels as an array in 0..1")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _checked(array: Any, ranged: bool = True) -> np.ndarray:
    """An array or tensor as an array, if it is an image. Raises ValueError otherwise."""
    array = np.asarray(array.detach().cpu() if isinstance(array, Tensor) else array)
    shape, floating = array.shape, np.issubdtype(array.dtype, np.floating)
    colours = shape[0 if floating else 2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or array.size == 0 or colours not in (1, 3) or not (floating or array.dtype == np.uint8):
        raise ValueError(
            f"an array of shape {shape} and dtype {array.dtype}; choices: a path, (path, row), a PIL image, "
            "uint8 (H, W) or (H, W, C), floats (H, W) or (C, H, W), where C is 1 or 3"
        )
    if floating and not (((array >= 0) & (array <= 1)) if ranged else np.isfinite(array)).all():
        raise ValueError(f"float pixels lie in 0..1, these from {array.min()} to {array.max()}")
    return array


def _from_array(array: Any) -> PIL.Image.Image:
    """A PIL image of an array or tensor."""
    import PIL.Image

    array = _checked(array)
    if np.issubdtype(array.dtype, np.floating):
        array = np.round(array * 255).astype(np.uint8)
        array = array if array.ndim == 2 else np.moveaxis(array, 0, 2)
    return PIL.Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)


def as_array(array: Any, ranged: bool = True) -> np.ndarray:
    """(C, H, W) of an array or tensor, uint8 or float32, as it is. Raises ValueError where it is no image.

    Args:
        ranged: whether floats must lie in 0..1.
    """
    array = _checked(array, ranged)
    if array.ndim == 2:
        return np.ascontiguousarray(array[None] if array.dtype == np.uint8 else array[None].astype(np.float32))
    array = np.moveaxis(array, 2, 0) if array.dtype == np.uint8 else array.astype(np.float32)
    return np.ascontiguousarray(array)


def recoloured(array: np.ndarray, channels: int) -> np.ndarray:
    """(C, H, W) in 3 channels or 1: grey is repeated, colours are weighed as ITU-R 601 does."""
    if len(array) == channels:
        return array
    if channels == 3:
        return np.repeat(array, 3, 0)
    grey = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), array.astype(np.float32), 1)[None]
    return np.round(grey).astype(np.uint8) if array.dtype == np.uint8 else grey


def stored(raw: Any, side: int, channels: int) -> np.ndarray | None:
    """uint8 (H, W) or (H, W, 3) of a row of an .npz file that needs nothing done: a square of this side in these channels.
    A view of what is kept; not to be written into."""
    if not isinstance(raw, tuple):
        return None
    path, row = raw
    images = archive(path).get("images")
    if images is None or images.shape[1:] != ((side, side) if channels == 1 else (side, side, 3)) or not 0 <= row < len(images):
        return None
    return images[row]  # type: ignore[no-any-return]


def as_tensor(array: np.ndarray) -> Tensor:
    """(C, H, W) of uint8 (H, W) or (H, W, C)."""
    pixels = torch.from_numpy(array)
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def archive(path: Any) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; the last few files stay in memory."""
    return _loaded(str(path), os.stat(path).st_mtime_ns)


@lru_cache(maxsize=4)
def _loaded(path: str, modified: int) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as members:
            size = sum(m.file_size for m in members.infolist())
        if size > MAX_ARCHIVE:
            raise BadRecord(path, None, f"{size} bytes unpacked are more than {MAX_ARCHIVE}; write several files")
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in ("images", "jpeg", "offsets", "labels") if k in file.files}
            names = ", ".join(file.files)
    except BadRecord:
        raise
    except (zipfile.BadZipFile, ValueError, EOFError, zlib.error) as e:
        raise BadRecord(path, None, f"no .npz file of plain arrays: {e}") from e
    if "images" in arrays:
        images = arrays["images"]
        if images.dtype != np.uint8 or images.size == 0 or images.ndim < 3 or images.shape[3:] not in ((), (1,), (3,)):
            raise BadRecord(path, None, f"images are {images.dtype} {images.shape}, not uint8 (N, H, W) or (N, H, W, 1 or 3)")
        arrays["images"] = images[..., 0] if images.shape[3:] == (1,) else images
    elif "jpeg" in arrays and "offsets" in arrays:
        data, offsets = arrays["jpeg"], arrays["offsets"]
        rising = offsets.ndim == 1 and len(offsets) > 1 and offsets[0] >= 0 and (np.diff(offsets) > 0).all()
        if data.dtype != np.uint8 or data.ndim != 1 or not rising or offsets[-1] > len(data):
            raise BadRecord(path, None, f"offsets must rise from 0 to at most the {len(data)} bytes of jpeg (uint8)")
    else:
        raise BadRecord(path, None, f"holds neither images nor jpeg and offsets, but {names or 'nothing'}")
    if "labels" in arrays and arrays["labels"].shape != (rows(arrays),):
        raise BadRecord(path, None, f"labels have shape {arrays['labels'].shape}, not ({rows(arrays)},)")
    return arrays


def rows(arrays: dict[str, np.ndarray]) -> int:
    """How many images an archive holds."""
    return len(arrays["images"]) if "images" in arrays else len(arrays["offsets"]) - 1


def jpeg(arrays: dict[str, np.ndarray], row: int) -> bytes:
    """The bytes of one image file of an archive."""
    start, end = arrays["offsets"][row : row + 2]
    return arrays["jpeg"][start:end].tobytes()
