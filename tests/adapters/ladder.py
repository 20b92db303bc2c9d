"""What the tests of adapters share: every adapter in a form or two, a small model of two modalities, real training steps."""

import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from mmm import plugins
from mmm.core.adapter import Adapter
from mmm.core.batch import StepBatch
from mmm.core.network import Decoder
from mmm.core.training import Training
from mmm.core.view import View
from mmm.corruptions.mask_vector import MaskVector
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.masking.uniform import Uniform
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.optimizers.adamw import AdamW
from mmm.targets.pixels import Pixels
from mmm.targets.token_ids import TokenIds
from mmm.testing import ToyIds, ToyPatches, batch, toy_raws

MODALITIES = {"ids": ToyIds, "patches": ToyPatches}
TARGETS = {"ids": TokenIds, "patches": Pixels}
BOTH = tuple(MODALITIES)
WIDTH, DEPTH = 32, 2


@dataclass(frozen=True)
class Case:
    """One form of an adapter.

    Args:
        adapter: class name. arguments: of it.
        trained: pattern of the names of parameters that may change, heads left out; None: those that it says are trained.
        exact: the first step starts from the plain model exactly. foldable: merge is defined.
    """

    adapter: str
    arguments: dict[str, Any] = field(default_factory=dict)
    trained: str | None = None
    exact: bool = True
    foldable: bool = True

    def make(self) -> Adapter:
        return plugins.find(self.adapter, "Adapter", "test").load()(**self.arguments)


_NET = r"bottleneck\.(down|up)\.(weight|bias)"
CASES = {
    "Frozen": Case("Frozen", {}, "nothing"),
    "Frozen, but embeddings": Case("Frozen", {"train": ["modalities"]}, r"modalities\..*"),
    "LastLayers": Case("LastLayers", {"blocks": 1}, r"encoder\.(blocks\.1|norm)\..*|decoder\..*"),
    "LayerDecay": Case("LayerDecay", {"decay": 0.5}, ".*"),
    "BitFit": Case("BitFit", {}, r".*\.bias"),
    "LoRA": Case("LoRA", {"rank": 4}, r"encoder\..*\.attention\.(qkv|out)\.lora_[AB]\.default\.weight"),
    "LoRA, MLP": Case(
        "LoRA",
        {"rank": 2, "targets": ["mlp.up", "mlp.down"], "stabilised": True, "dropout": 0.1},
        r"encoder\..*\.mlp\.(up|down)\.lora_[AB]\.default\.weight",
    ),
    "Bottleneck": Case("Bottleneck", {"size": 4}, rf"encoder\.blocks\.\d\.(attention|mlp)\.{_NET}", foldable=False),
    "Bottleneck, Pfeiffer": Case(
        "Bottleneck", {"size": 4, "placement": "pfeiffer"}, rf"encoder\.blocks\.\d\.{_NET}", foldable=False
    ),
    "Invertible": Case("Invertible", {}, r"encoder\.coupling\..*", foldable=False),
    "Invertible, MAD-X": Case(
        "Invertible", {"bottleneck": 4}, rf"encoder\.coupling\..*|encoder\.inner\.blocks\.\d\.{_NET}", foldable=False
    ),
    "Prompt": Case("Prompt", {"tokens": 3}, r"encoder\.prompt_PD", exact=False, foldable=False),
    "Prompt, deep": Case(
        "Prompt",
        {"tokens": 3, "deep": True},
        r"encoder\.(inner\.blocks\.1\.)?prompt_PD",
        exact=False,
        foldable=False,
    ),
    "Prefix": Case(
        "Prefix", {"tokens": 3}, r"encoder\.blocks\.\d\.attention\.(key|value)_PHd", exact=False, foldable=False
    ),
    "Sparse": Case("Sparse", {"share": 0.1}, ".*"),
    "NewModalities": Case("NewModalities", {}, r"modalities\..*|modality_vector\.weight|decoder\.mask_vector"),
    "NewModalities, slowly": Case("NewModalities", {"body": 0.1}, ".*"),
}  # fmt: skip
for _name in plugins.of_role("Adapter"):
    if _name not in {c.adapter for c in CASES.values()}:
        CASES[_name] = Case(_name, exact=False, foldable=False)


def training(adapter: Adapter | None, names: tuple[str, ...] = BOTH, seed: int = 3, decoder: Decoder | None = None) -> Training:
    """A small model in training, built and adapted; one seed, one set of pretrained weights."""
    torch.manual_seed(seed)
    made = Training(
        {name: MODALITIES[name]() for name in names},
        Transformer(WIDTH, DEPTH, 4, rotary=2),
        MaskedModeling(
            Uniform(0.4),
            MaskVector(),
            {name: TARGETS[name]() for name in names},
            {"ids": "tied"} if "ids" in names else {},
        ),
        decoder or Readout(),
        AdamW(lr=1e-2, weight_decay=0.1),
        modality_vector=True,
        adapter=adapter,
        seed=seed,
    )  # fmt: skip
    made.build(lambda address, part, name: None)
    return made


def stir(made: Training, amount: float = 0.2) -> None:
    """Move everything that is trained, so that nothing an adapter put in is still the identity."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * amount)


def tokens_of(made: Training):
    """Records of all lengths that have the model's modalities."""
    raws = [{n: r for n, r in raw.items() if n in made.modalities} for raw in toy_raws(8)]
    return batch(made.modalities, [raw for raw in raws if raw])


def some_view(tokens, dropped: bool = False) -> View:
    """A third of the maskable tokens hidden, or dropped."""
    hidden_T = tokens.layout.maskable_T & (tokens.layout.place_T % 3 == 1)
    return View.of(tokens, hidden_T, kept_K=(~hidden_T).nonzero()[:, 0] if dropped else None)


def answers(made: Training) -> Tensor:
    """y_ND of ``some_view``, in evaluation."""
    made.eval()
    with torch.no_grad():
        return made.model(some_view(tokens_of(made)))


class Keep(Callback):
    """The gradients that the optimiser saw at the last step, by name."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients = {n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None}


def fit(made: Training, steps: int = 3, folder: Any = None, save_at: int = 0, **arguments: Any) -> Keep:
    """Real optimiser steps through the trainer, with weight decay."""

    class Save(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == save_at:
                trainer.save_checkpoint(f"{folder}/step.ckpt")

    keep = Keep()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            max_steps=steps,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[keep, Save()],
            default_root_dir=folder,
            limit_val_batches=0,
        )
        trainer.fit(made, DataLoader([StepBatch((tokens_of(made),))] * steps, batch_size=None), **arguments)
    return keep


def copied(made: Training) -> dict[str, Tensor]:
    """Every parameter of the model, by name."""
    return {name: p.detach().clone() for name, p in made.model.named_parameters()}


def check_untouched(made: Training, before: dict[str, Tensor], trained: str | None) -> None:
    """What is not in ``trained`` and no head has the bits it had."""
    allowed = trained or "|".join(re.escape(n) for n, p in made.model.named_parameters() if p.requires_grad)
    for name, parameter in made.model.named_parameters():
        if not name.startswith("heads.") and not re.fullmatch(allowed, name):
            assert torch.equal(parameter, before[name]), f"{name} is frozen, but it moved"
