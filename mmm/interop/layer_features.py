"""What a layer of an earlier run says of each token, to be clustered.

Shape suffixes: N tokens of one modality, D width of the earlier model.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mmm.core.errors import BadRecipe
from mmm.core.modality import Tokenizer
from mmm.core.model import Model
from mmm.core.tokens import Tokens
from mmm.core.view import View
from mmm.targets.acoustic_units import Features


class LayerFeatures(Features):
    """Outputs of one block of an earlier run's encoder over the whole record, nothing hidden: HuBERT's later rounds.

    The earlier model is read from its run folder and never trained; checkpoints of the new run hold the clusters, not that
    model.

    Paper: HuBERT, arXiv:2106.07447, section III.C (layer 6 of the first round's twelve, then layer 9).

    Args:
        run: run folder or checkpoint of the earlier run. layer: number of the block, from 1. width: of the earlier encoder.
    """

    def __init__(self, run: str, layer: int, width: int):
        self.run, self.layer, self.width = run, layer, width
        self._model: Model | None = None
        self._name = ""

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        self._name, self._tokenizer = name, tokenizer

    def _earlier(self) -> Model:
        """The earlier model, read once.

        Raises:
            BadRecipe: where it is not there, or reads records in another way than the new one.
        """
        if self._model is None:
            from mmm.loading import load

            if not Path(self.run).exists():
                raise BadRecipe(
                    f"LayerFeatures: no earlier run at {self.run!r}; train it first, or name it by features.init_args.run"
                )
            model = load(self.run).model.requires_grad_(False)
            if self._name not in model.names:
                raise BadRecipe(
                    f"LayerFeatures: the run {self.run} has no modality {self._name!r}; it has {', '.join(model.names)}"
                )
            if model.encoder.width != self.width or not 1 <= self.layer <= model.encoder.depth:
                raise BadRecipe(
                    f"LayerFeatures(layer={self.layer}, width={self.width}): the encoder of {self.run} has "
                    f"{model.encoder.depth} blocks of width {model.encoder.width}"
                )
            self._compare(model)
            self._model = model
        return self._model

    def _compare(self, model: Model) -> None:
        """Both must make the same content of a record: compared on a second of a fixed sound.

        The earlier model then reads the new run's content as it is.
        """
        wave = torch.sin(torch.arange(16000) / 7) * torch.linspace(0, 0.5, 16000)
        theirs = model.modalities[self._name].tokenizer.tokenize((wave, 16000)).content  # type: ignore[union-attr, operator]
        ours = self._tokenizer.tokenize((wave, 16000)).content
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
            raise BadRecipe(
                f"LayerFeatures: {self.run} makes content of shape {tuple(theirs.shape)} of a second of sound and this recipe "
                f"{tuple(ours.shape)}, or other numbers; give both the same front end and the same training data"
            )

    @torch.no_grad()
    def __call__(self, tokens: Tokens, name: str) -> Tensor:
        model = self._earlier().to(tokens.content[name].device)
        part = tokens.part(name)
        content = {n: model.modalities[n].tokenizer.empty() for n in model.names}  # type: ignore[union-attr, operator]
        content[name] = part.content_R
        layout = replace(part.layout_N, modality_T=torch.full_like(part.layout_N.modality_T, model.names.index(name)))
        runs = {n: (part.layout_N.runs if n == name else ()) for n in model.names}
        tokenizers = {n: model.modalities[n].tokenizer for n in model.names}
        alone = Tokens(content, layout, tokenizers, runs)  # type: ignore[arg-type]
        view = View.of(alone.to("cpu"), torch.zeros(len(alone), dtype=torch.bool)).to(part.content_R.device)
        return model.encode(view, want=(self.layer,)).layers[self.layer].float()
