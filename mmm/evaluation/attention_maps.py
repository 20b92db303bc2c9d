"""The attention maps of a frozen encoder, worked out beside it: its own fast paths never make them.

Shape suffixes: T tokens, N tokens without specials, H attention maps (of all layers), h heads of a layer, d head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.errors import BadRecipe
from mmm.core.rule import dense
from mmm.nn.attention import Attention
from mmm.nn.rotary import rotate

from .features import Frozen


def attention_maps(frozen: Frozen, record: Any) -> Tensor:
    """map_HNN of one record: who attends to whom, in the order of the layers, specials left out.

    Raises:
        ValueError: the encoder has no ``mmm.nn.Attention``, or the record is longer than the model reads.
    """
    model = frozen.model
    layers = [m for m in model.model.encoder.modules() if isinstance(m, Attention)]
    if not layers:
        raise BadRecipe(f"{type(model.model.encoder).__name__} has no attention maps to be read")
    found: list[Tensor] = []

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(_map(module, *args, **kwargs))  # type: ignore[arg-type]

    hooks = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in layers]
    try:
        with torch.inference_mode():
            name, piece = model.piece(record, frozen.modality)
            _, _, view = model.view(name, [(0, piece)])
            model.model.encode(view)
    finally:
        for hook in hooks:
            hook.remove()
    own_N = view.layout_K.maskable_T.nonzero()[:, 0]
    return torch.cat(found)[:, own_N][:, :, own_N].float().cpu()


def _map(layer: Attention, x_TD: Tensor, layout: Any, rule: Any = None, turn: Any = None, bias: Any = None) -> Tensor:
    """map_hTT of one segment: softmax(q k' / sqrt(d) + bias) as the layer works it out."""
    q_Thd, k_Thd, _ = layer.qkv(x_TD).unflatten(1, (3, layer.heads, -1)).unbind(1)
    if turn is not None:
        q_Thd, k_Thd = rotate(q_Thd, *turn), rotate(k_Thd, *turn)
    score_hTT = torch.einsum("ihd,jhd->hij", q_Thd, k_Thd) * q_Thd.shape[-1] ** -0.5
    if bias is not None:
        score_hTT = score_hTT + bias[0][0]
    return score_hTT.masked_fill(~dense(layout, rule), -torch.inf).softmax(-1)
