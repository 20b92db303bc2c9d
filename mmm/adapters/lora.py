"""A product of two thin matrices beside chosen weights.

Shape suffixes: D width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmm.core.adapter import Adapter, freeze_body
from mmm.core.errors import did_you_mean
from mmm.core.model import Model

from ._body import places


class LoRA(Adapter):
    """Low-rank adaptation: a frozen weight W (out, in) becomes W + alpha / rank x B A with A (rank, in) and B (out, rank).

    A is drawn, B is 0, so the first step starts from the pretrained model exactly. ``merge`` adds the product to W; what is
    left has the names of the plain model. The layers are those of the library peft.

    Paper: Hu et al. 2021, "LoRA", arXiv:2106.09685; rank-stabilised: Kalajdzievski 2023, arXiv:2312.03732.

    Args:
        rank: of the product. alpha: numerator of its factor.
        dropout: on what goes into the product, in [0, 1).
        targets: endings of the names of the encoder's products that get one; "mlp.up" and "mlp.down" are the others.
        stabilised: the factor is alpha / sqrt(rank) instead, which lets large ranks learn (rsLoRA).
    """

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        targets: Sequence[str] = ("attention.qkv", "attention.out"),
        stabilised: bool = False,
    ):
        super().__init__()
        if rank < 1 or not 0 <= dropout < 1:
            raise ValueError(f"LoRA(rank={rank}, dropout={dropout}): needs a rank of 1 or more and a dropout in [0, 1)")
        if not targets:
            raise ValueError("LoRA(targets=[]): name at least one product, such as attention.qkv")
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        self.targets, self.stabilised = list(targets), stabilised

    def adapt(self, model: Model) -> None:
        """Raises ValueError where a target is the ending of no product's name."""
        from peft import LoraConfig, inject_adapter_in_model

        products = [name for name, module in model.encoder.named_modules() if isinstance(module, nn.Linear)]
        endings = {".".join(name.split(".")[-2:]) for name in products}
        for target in self.targets:
            if not any(f".{name}".endswith(f".{target}") for name in products):
                raise ValueError(f"LoRA: the encoder has no product {target!r}. {did_you_mean(target, endings)}")
        freeze_body(model)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # any number; it is only divided
            lora_dropout=self.dropout,
            target_modules=self.targets,
            use_rslora=self.stabilised,
        )
        inject_adapter_in_model(config, model.encoder)

    def merge(self, model: Model) -> None:
        """Add every product to its weight and put the plain layers back."""
        from peft.tuners.lora import LoraLayer

        for parent, name, layer in places(model.encoder, LoraLayer):
            layer.merge()
            setattr(parent, name, layer.get_base_layer())
