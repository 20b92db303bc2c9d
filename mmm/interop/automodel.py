"""Any model of ours under transformers' AutoModel: a registered configuration and class, no code in the model's folder.

Importing this module registers the type: ``import mmm.interop.automodel``, then ``AutoModel.from_pretrained(folder)``.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput, cached_file

from mmm.core.errors import BadRecipe
from mmm.core.modality import Assets
from mmm.loaded import Loaded
from mmm.recipe import Recipe, instantiate, resolve
from mmm.yaml import dump, loads

from .from_safetensors import ASSETS, INDEX, MODEL_TYPE, asset_files, portable, ties, write_assets


class MmmConfig(PretrainedConfig):
    """A recipe as a configuration.

    Args:
        recipe: the text of the whole recipe; as text, because the order of its modalities means something, and keys of
            config.json are sorted. tied: parameters that are another one under a second name.
    """

    model_type = MODEL_TYPE

    def __init__(self, recipe: str = "", tied: Mapping[str, str] | None = None, **others: Any):
        self.recipe, self.tied = recipe, dict(tied or {})
        super().__init__(**{"tie_word_embeddings": True, **others})


@dataclass
class MmmOutput(ModelOutput):  # type: ignore[misc]
    """What a model says of records.

    Args:
        last_hidden_state: hidden_ND of each record. logits: logits_NV of each, where the modality has a head.
    """

    last_hidden_state: list[Tensor] | None = None
    logits: list[Tensor] | None = None


class MmmModel(PreTrainedModel):  # type: ignore[misc]
    """A model of ours, to be asked with raw records; see ``mmm.load`` for all else it can do.

    Args:
        config: with the recipe; the files of the fitted parts lie where it was loaded from. loaded: the model, where it is
            there already.

    Raises:
        ValueError: a file of a fitted part is missing, the recipe names what is not installed, a dtype is asked for.
    """

    config_class = MmmConfig
    base_model_prefix = ""
    main_input_name = "records"

    def __init__(self, config: MmmConfig, loaded: Loaded | None = None):
        super().__init__(config)
        if loaded is None:
            if torch.get_default_dtype() != torch.float32:  # what the library makes of from_pretrained(dtype=...)
                raise BadRecipe("MmmModel keeps its weights in float32: leave dtype out, and compute under torch.autocast")
            with torch.device("cpu"):  # nowhere else: tokenizers keep statistics as tensors
                loaded = _built(config)
        self._loaded = (loaded,)  # in a tuple: its parts are registered once, under the names they have in a checkpoint
        self.model, self.objective, self.adapter = loaded.model, loaded.objective, loaded.adapter
        self.config.tied = ties(self)
        self._tied_weights_keys = dict(self.config.tied) or None
        self.post_init()

    @classmethod
    def of(cls, values: Mapping[str, Any], loaded: Loaded) -> MmmModel:
        """A loaded model and its recipe."""
        return cls(MmmConfig(dump(portable(values))), loaded).eval()

    @property
    def loaded(self) -> Loaded:
        """The model as ``mmm.load`` gives it, on this one's device."""
        return self._loaded[0].to(self.device)

    def forward(self, records: Sequence[Any], modality: str | None = None) -> MmmOutput:
        """See ``mmm.loaded.Loaded.hidden``; records are strings, paths, images, arrays or (waveform, rate)."""
        loaded = self.loaded
        hidden, names = loaded.hidden(records, modality), {loaded.piece(r, modality)[0] for r in records}
        headed = {address.split("/")[0] for address in loaded.model.heads}
        return MmmOutput(hidden, loaded.logits(records, modality) if names <= headed else None)

    def save_pretrained(self, save_directory: Any, **how: Any) -> None:
        """As for every model of the library, and the files of the fitted parts."""
        super().save_pretrained(save_directory, **how)
        write_assets(Path(save_directory), self._loaded[0].assets)

    def _init_weights(self, module: Any) -> None:
        """Every parameter comes with its own first value."""


def _built(config: MmmConfig) -> Loaded:
    """The model of a configuration, its weights not filled in."""
    name = config.name_or_path
    if not config.recipe or not name:
        raise BadRecipe("MmmConfig holds no recipe, or was not loaded from a folder: use AutoModel.from_pretrained(folder)")
    training = instantiate(Recipe(Path(name).name, resolve(loads(config.recipe, name), name)), Loaded)
    assert isinstance(training, Loaded)
    with torch.random.fork_rng(devices=[]):
        training.restore(_assets(name))
    return training


def _assets(name: str) -> dict[str, Assets]:
    """The files of the fitted parts of a folder or a hub name."""

    def fetched(file: str) -> Path:
        try:
            found = cached_file(name, f"{ASSETS}/{file}")
        except OSError as error:
            raise BadRecipe(f"{name}: {ASSETS}/{file} is missing, and the model cannot read records without it") from error
        return Path(found)

    index = asset_files(fetched(INDEX))
    return {address: {file: fetched(f"{address}/{file}").read_bytes() for file in files} for address, files in index.items()}


AutoConfig.register(MODEL_TYPE, MmmConfig, exist_ok=True)
AutoModel.register(MmmConfig, MmmModel, exist_ok=True)
