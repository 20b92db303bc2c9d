"""Images as patches.

Shape suffixes: R content rows, N tokens of this modality, D width, V output size; H height, W width, C colour channels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from mmm.core.errors import BadRecipe
from mmm.core.layout import Layout
from mmm.core.modality import Assets, Modality, Record
from mmm.core.objective import Answer
from mmm.core.picture import Picture, Raster
from mmm.core.tokens import Tokens
from mmm.modalities._patches import ImageTokenizer, Preprocess
from mmm.modalities._processor import read
from mmm.nn.positions import LearnedPositions, sinusoidal


class Image(Modality):
    """Images as patches, each one product away from its token.

    Augmentation and resizing are timm's (bicubic), their randomness the record's own. With ``size: null`` images keep their
    size and aspect and are cut to whole patches, so each has as many tokens as it is large.

    Paper: ViT, arXiv:2010.11929; patches and their sines as in MAE, arXiv:2111.06377; registers, arXiv:2309.16588.

    Args:
        size: side of the square image in pixels, a multiple of ``patch``; null: any size.
        patch: side of a patch in pixels.
        channels: 3 colours, or 1 grey value; images are converted.
        cls: put one learned token in front. registers: and so many more.
        augment: random crops and flips in training. scale: share of the area a crop covers, from and to. flip: share that is
            mirrored (0 for digits and letters).
        mean, std: one number a channel, of pixels in 0..1; by default ImageNet's for 3 channels, the training data's for 1.
        positions: absolute positions of the patches; "learned" needs a ``size``; "none" where the encoder's are rotary.
        norm: LayerNorm after them (CLIP). eps: of it.
        preprocess: "own" as said above; "processor": by the image processor of the model this was imported from, the same in
            training but for ``augment``, whose crops and flips are ours, normalised by its mean and std; "given": none at all,
            what comes in must have the model's size (``size`` need be no multiple of ``patch`` with these two).
    """

    adjustable = ("size", "augment", "scale", "flip")

    def __init__(
        self,
        size: int | None = 224,
        patch: int = 16,
        channels: Literal[1, 3] = 3,
        cls: bool = False,
        registers: int = 0,
        augment: bool = True,
        scale: tuple[float, float] = (0.2, 1.0),
        flip: float = 0.5,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        positions: Literal["none", "learned", "sinusoidal"] = "sinusoidal",
        norm: bool = False,
        eps: float = 1e-5,
        preprocess: Preprocess = "own",
    ):
        super().__init__()
        own = preprocess == "own"
        if not own and (size is None or mean is not None or (augment and preprocess == "given")):
            raise BadRecipe(
                f"Image(size={size}, mean={mean}, augment={augment}, preprocess={preprocess!r}): needs a size, "
                "and no mean and std; with 'given', augment: false"
            )
        if patch < 1 or (size is not None and (size < patch or (own and size % patch))):
            raise BadRecipe(f"Image(size={size}, patch={patch}): size must be a multiple of patch, or null for any size")
        if registers < 0:
            raise BadRecipe(f"Image(registers={registers}): needs 0 or more")
        if not (0 < scale[0] <= scale[1] <= 1 and 0 <= flip <= 1):
            raise BadRecipe(f"Image(scale={scale}, flip={flip}): shares lie in 0 to 1, the smaller scale first")
        if (mean is None) != (std is None) or any(len(m) != channels for m in (mean, std) if m is not None):
            raise BadRecipe(f"Image(mean={mean}, std={std}): give both, {channels} number(s) each, or neither")
        if std is not None and min(std) <= 0:
            raise BadRecipe(f"Image(std={std}): must be above 0")
        if positions == "learned" and size is None:
            raise BadRecipe("Image(positions='learned', size=null): learned positions need a size; choose sinusoidal, or none")
        self.fitted = own and mean is None and channels == 1
        if not own:
            mean, std = [0.0] * channels, [1.0] * channels  # of a processor: see restore
        elif mean is None and channels == 3:
            from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

            mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.cls, self.registers = cls, registers
        self.positions, self.with_norm, self.eps, self.preprocess = positions, norm, eps, preprocess
        self.tokenizer: ImageTokenizer = ImageTokenizer(
            size, patch, channels, int(cls) + registers, augment, scale, flip, mean, std, preprocess
        )

    def fit(self, records: Sequence[Record]) -> None:
        """Raises ValueError where a processor is wanted: it is restored with an import, never fitted."""
        if self.preprocess == "processor" and self.tokenizer.processor is None:
            raise BadRecipe("Image(preprocess='processor'): the processor comes with a model that is imported; name init_from")
        if self.fitted:
            self.tokenizer.mean, self.tokenizer.std = self.tokenizer.statistics_of(records)

    def assets(self) -> Assets:
        if self.tokenizer.processor is not None:
            return {self.tokenizer.processor.file: json.dumps(self.tokenizer.processor.values, indent=2).encode()}
        if not self.fitted or self.tokenizer.mean is None:
            return {}
        return {"statistics.json": json.dumps({"mean": self.tokenizer.mean, "std": self.tokenizer.std}).encode()}

    def restore(self, assets: Assets) -> None:
        if self.preprocess == "processor":
            tokenizer, channels = self.tokenizer, self.tokenizer.channels
            tokenizer.processor = read(assets)
            mean, std = tokenizer.processor.mean, tokenizer.processor.std
            tokenizer.mean, tokenizer.std = ([*m] * channels if len(m) == 1 else [*m][:channels] for m in (mean, std))
        if self.fitted:
            statistics = json.loads(assets["statistics.json"])
            self.tokenizer.mean, self.tokenizer.std = statistics["mean"], statistics["std"]

    def build(self, width: int) -> None:
        """A product (Xavier, as MAE), the mask vector, CLS and registers (normal, std 0.02), positions and norm as asked."""
        tokenizer = self.tokenizer
        self.project = nn.Linear(tokenizer.row, width)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.mask = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.mask, std=0.02)
        self.specials = None
        if tokenizer.specials:
            self.specials = nn.Parameter(torch.zeros(tokenizer.specials, width))
            nn.init.normal_(self.specials, std=0.02)
        self.position = None
        if self.positions == "learned":
            assert tokenizer.side is not None
            self.position = LearnedPositions((tokenizer.side // tokenizer.patch,) * 2, width)
        self.norm = nn.LayerNorm(width, eps=self.eps) if self.with_norm else nn.Identity()

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND. CLS and registers have no position besides their own vector, as in MAE."""
        x_ND = torch.where(hidden_N[:, None], self.mask, self.project(content_R.to(self.mask.dtype)))
        position_TC = layout_N.position_TC.clamp(min=0)
        if self.position is not None:
            x_ND = x_ND + self.position(position_TC, 2)
        elif self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(position_TC, x_ND.shape[1], 2).to(x_ND.dtype)
        if self.specials is not None:  # never hidden nor dropped, so each piece has all of its own, in order
            special_N = ~layout_N.maskable_T
            number_N = (special_N.cumsum(0) - 1) % len(self.specials)
            x_ND = torch.where(special_N[:, None], self.specials[number_N], x_ND)
        normed_ND: Tensor = self.norm(x_ND)
        return normed_ND

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """The image, the same with hidden patches grey, and with the patches that every pixel target predicted."""
        part, tokenizer = tokens.part(name), self.tokenizer
        patch_N = part.layout_N.maskable_T
        y, x = part.layout_N.position_TC[patch_N, -2:].amax(0).long().tolist()

        def raster(caption: str, rows_R: Tensor, grey_N: Tensor | None = None) -> Raster:
            pixels = tokenizer.unpatchify(rows_R[patch_N], (y + 1, x + 1))
            if grey_N is not None:
                grey = rearrange(grey_N[patch_N], "(h w) -> h w", h=y + 1)
                pixels[:, grey.repeat_interleave(tokenizer.patch, 0).repeat_interleave(tokenizer.patch, 1)] = 0.5
            return Raster(caption, pixels[0] if tokenizer.channels == 1 else rearrange(pixels, "c h w -> h w c"))

        share = hidden_N.sum().item() / max(1, patch_N.sum().item())
        pictures: list[Picture] = [
            raster("original", part.content_R),
            raster(f"masked ({share:.0%} of the patches)", part.content_R, hidden_N),
        ]
        row = {place: n for n, place in enumerate(part.index_N.tolist())}
        for answer in answers:
            if answer.name != name or not hasattr(answer.target, "normalise") or answer.output_NV.shape[1] != tokenizer.row:
                continue
            asked_N = torch.tensor([row[place] for place in answer.answer_N.tolist()], dtype=torch.int64)
            output_NV, caption = answer.output_NV.detach().float().cpu(), "reconstructed"
            if answer.target.normalise:
                truth_NV = part.content_R[asked_N]
                output_NV = output_NV * (truth_NV.var(1, keepdim=True) + 1e-6).sqrt() + truth_NV.mean(1, keepdim=True)
                caption += " (brightness and contrast of each patch taken from the original)"
            filled_R = part.content_R.clone()
            hidden = hidden_N[asked_N]  # visible patches are shown as they are
            filled_R[asked_N[hidden]] = output_NV[hidden]
            pictures.append(raster(caption, filled_R, hidden_N & ~torch.isin(torch.arange(len(hidden_N)), asked_N)))
        return pictures
