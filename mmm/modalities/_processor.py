"""What another library does with an image before its model sees it: its own processor, told by its own file.

Shape suffixes: H height, W width, C colour channels.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mmm.core.errors import BadRecipe
from mmm.modalities._pixels import as_array, as_tensor, opened, plain, recoloured

if TYPE_CHECKING:
    import PIL.Image

TRANSFORMERS, TIMM = "preprocessor_config.json", "data_config.json"
"""The files as their libraries name them (timm: its data configuration, as ``create_transform`` takes it)."""

NARROWEST = 1000
"""Times one side of a picture may be as long as the other."""


class Processor(Protocol):
    """Mean and std are those of pixels in 0..1, whatever scale the library normalises on."""

    file: str
    values: dict[str, Any]
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, raw: Any, channels: int) -> Tensor:
        """(C, H, W) as the model takes it."""


def read(assets: dict[str, bytes]) -> Processor:
    """The processor among the assets. Raises ValueError where there is none, or it is none."""
    for file, kind in ((TRANSFORMERS, OfTransformers), (TIMM, OfTimm)):
        if file in assets:
            values = json.loads(assets[file])
            if not isinstance(values, dict):
                raise BadRecipe(f"{file}: no settings of an image processor")
            return kind(values)
    raise BadRecipe(f"Image(preprocess='processor'): needs {TRANSFORMERS} or {TIMM} of the model it was imported from")


class OfTransformers:
    """An image processor of the transformers library, every switch of it.

    Floats are taken as pixels in 0..1 and are not rescaled a second time.

    Args:
        values: its preprocessor_config.json.
    """

    file = TRANSFORMERS

    def __init__(self, values: dict[str, Any]):
        self.values = {k: v for k, v in values.items() if k != "auto_map"}  # which names code of a stranger
        library = self._library
        factor = 255 * library.rescale_factor if library.do_rescale else 255.0
        mean, std = (library.image_mean, library.image_std) if library.do_normalize else (0.0, 1.0)
        self.mean, self.std = _list(mean, factor), _list(std, factor)

    @cached_property
    def _library(self) -> Any:
        from transformers import AutoImageProcessor

        with tempfile.TemporaryDirectory() as folder:  # the library reads folders only
            (Path(folder) / TRANSFORMERS).write_text(json.dumps(self.values), encoding="utf-8")
            try:
                return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
            except (ImportError, KeyError, OSError, TypeError, ValueError) as error:
                raise BadRecipe(f"{TRANSFORMERS}: no image processor: {' '.join(str(error).split())[:300]}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_library"}  # made anew in a worker

    def __call__(self, raw: Any, channels: int) -> Tensor:
        library, switches = self._library, {}
        image = picture(raw, channels, any_mode=bool(library.do_convert_rgb) and channels == 3)
        if isinstance(image, np.ndarray):
            switches["input_data_format"] = "channels_first"
            if np.issubdtype(image.dtype, np.floating):
                factor = 255 * library.rescale_factor if library.do_rescale else 1.0
                image = image if abs(factor - 1) < 1e-6 else image * np.float32(factor)
                switches["do_rescale"] = False
        pixels = library(image, return_tensors="pt", **switches)["pixel_values"]
        if pixels.ndim != 4 or len(pixels) != 1:
            raise ValueError(f"the image processor makes pixels of shape {tuple(pixels.shape)} of one image")
        return pixels[0].float()  # type: ignore[no-any-return]


class OfTimm:
    """The evaluation transform of a timm model.

    Args:
        values: its data configuration: input_size, interpolation, mean, std, crop_pct, crop_mode.
    """

    file = TIMM

    def __init__(self, values: dict[str, Any]):
        self.values = values
        try:
            self.mean, self.std = _list(values["mean"], 1.0), _list(values["std"], 1.0)
            self._transform  # noqa: B018 - wrong values are told now
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise BadRecipe(f"{TIMM}: no data configuration of timm: {error!r}") from error

    @cached_property
    def _transform(self) -> Any:
        from timm.data.transforms_factory import create_transform

        return create_transform(**self.values, is_training=False)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_transform"}

    def __call__(self, raw: Any, channels: int) -> Tensor:
        import PIL.Image

        image = picture(raw, channels)
        if isinstance(image, np.ndarray) and image.dtype == np.uint8:  # as its users turn an array into a picture
            image = PIL.Image.fromarray(image[0] if channels == 1 else np.moveaxis(image, 0, 2))
        return self._transform(torch.from_numpy(image) if isinstance(image, np.ndarray) else image)  # type: ignore[no-any-return]


def as_given(raw: Any, channels: int) -> Tensor:
    """(C, H, W) without any processing: floats as they are, 8-bit pixels in 0..1."""
    image = picture(raw, channels, ranged=False)
    pixels = torch.from_numpy(image) if isinstance(image, np.ndarray) else as_tensor(np.array(image))
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def picture(raw: Any, channels: int, any_mode: bool = False, ranged: bool = True) -> PIL.Image.Image | np.ndarray:
    """A PIL image, or an array (C, H, W) of uint8 or float32, in the model's number of channels.

    Args:
        any_mode: leave the conversion of a PIL image's mode to the library. ranged: refuse floats outside 0..1.

    Raises:
        BadRecord, OSError, ValueError: no image that can be read.
    """
    import PIL.Image
    from PIL import ImageOps

    if not isinstance(raw, (str, Path, tuple, PIL.Image.Image)):
        array = recoloured(as_array(raw, ranged), channels)
        _check_shape(*array.shape[1:])
        return array
    image = opened(raw)
    _check_shape(*image.size)
    if not isinstance(raw, PIL.Image.Image):
        image = ImageOps.exif_transpose(image)  # files upright, as the libraries load them; an image that is given stays
    mode = "RGB" if channels == 3 else "L"
    if image.mode == mode or (any_mode and not image.mode.startswith(("I", "F"))):
        image.load()
        return image
    return plain(image, mode)


def _check_shape(a: int, b: int) -> None:
    """Raises ValueError where a picture, resized by its shorter side, would fill the memory."""
    if max(a, b) > NARROWEST * min(a, b):
        raise ValueError(f"{a} x {b} pixels are too narrow: one side is over {NARROWEST} times the other")


def _list(value: Any, factor: float) -> list[float]:
    numbers = [value] if isinstance(value, (int, float)) else list(value)
    return [float(n) / factor for n in numbers]
