"""The transformer on the weights of four published families: equal outputs, equal gradients.

The others run each record alone, ours runs them packed.
"""

import pytest
import torch
from torch import nn

from mmm.core.tokens import Piece, Sample, pack
from mmm.encoders.transformer import Local, Transformer
from mmm.testing import near, toys

WIDTH, HEADS, FF = 32, 4, 48
LENGTHS = (5, 12, 12, 23)
LAYOUT = pack(
    [Sample({"ids": Piece(torch.zeros(n), torch.arange(n))}, i) for i, n in enumerate(LENGTHS)],
    {"ids": toys()["ids"].tokenizer},
).layout
SIZES = {"hidden_size": WIDTH, "intermediate_size": FF, "num_attention_heads": HEADS, "num_hidden_layers": 4}


def bert():
    from transformers import BertConfig, BertModel

    model = BertModel(
        BertConfig(**SIZES, layer_norm_eps=1e-5, vocab_size=9, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    )
    layers = [
        (
            (a.self.query, a.self.key, a.self.value),
            a.output.dense,
            layer.intermediate.dense,
            layer.output.dense,
            a.output.LayerNorm,
            layer.output.LayerNorm,
        )
        for layer in model.encoder.layer
        for a in [layer.attention]
    ]
    return Transformer(WIDTH, 4, HEADS, FF, order="post"), layers, None, lambda x: model.encoder(x).last_hidden_state


def vit():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        **SIZES, layer_norm_eps=1e-5, image_size=8, patch_size=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model = ViTModel(config, add_pooling_layer=False)
    layers = [
        ((a.q_proj, a.k_proj, a.v_proj), a.o_proj, layer.mlp.fc1, layer.mlp.fc2, layer.layernorm_before, layer.layernorm_after)
        for layer in model.layers
        for a in [layer.attention]
    ]

    def run(x):
        for layer in model.layers:
            x = layer(x)
        return model.layernorm(x)

    return Transformer(WIDTH, 4, HEADS, FF), layers, model.layernorm, run


def esm2():
    from transformers import EsmConfig, EsmModel

    config = EsmConfig(
        **SIZES, layer_norm_eps=1e-5, vocab_size=33, pad_token_id=1, mask_token_id=32, position_embedding_type="rotary",
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = EsmModel(config, add_pooling_layer=False)
    layers = [
        (
            (a.self.query, a.self.key, a.self.value),
            a.output.dense,
            layer.intermediate.dense,
            layer.output.dense,
            a.LayerNorm,
            layer.LayerNorm,
        )
        for layer in model.encoder.layer
        for a in [layer.attention]
    ]

    def run(x):
        turn = model.rotary_embeddings(x, torch.arange(x.shape[1])[None])
        return model.encoder(x, position_embeddings=turn).last_hidden_state

    return Transformer(WIDTH, 4, HEADS, FF, rotary=1), layers, model.encoder.emb_layer_norm_after, run


def modernbert():
    from transformers import ModernBertConfig, ModernBertModel

    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    model = ModernBertModel(ModernBertConfig(**SIZES, **ends, vocab_size=9, local_attention=8))
    layers = [
        ((layer.attn.Wqkv,), layer.attn.Wo, layer.mlp.Wi, layer.mlp.Wo, layer.attn_norm, layer.mlp_norm)
        for layer in model.layers
    ]
    ours = Transformer(WIDTH, 4, HEADS, FF, activation="geglu", bias=False, rotary=1, theta=160000, local=Local(4, 3))
    # ModernBERT's embedding ends in a norm, so its first block begins without one.
    ours.blocks[0].norm1 = nn.Identity()
    model.embeddings.norm = nn.Identity()
    return ours, layers, model.final_norm, lambda x: model(inputs_embeds=x).last_hidden_state


def pairs(ours: Transformer, layers, last):
    """(our parameter, the parameters it is made of)."""
    rows = []
    for block, (qkv, out, up, down, norm1, norm2) in zip(ours.blocks, layers, strict=True):
        parts = ((block.attention.qkv, qkv), (block.attention.out, (out,)), (block.mlp.up, (up,)), (block.mlp.down, (down,)))
        rows += [*parts, (block.norm1, (norm1,)), (block.norm2, (norm2,))]
    if last is not None:
        rows.append((ours.norm, (last,)))
    return [
        (parameter, [getattr(m, name) for m in theirs])
        for own, theirs in rows
        for name, parameter in own.named_parameters(recurse=False)
    ]


@pytest.mark.parametrize("family", [bert, vit, esm2, modernbert])
def test_parity(family):
    torch.manual_seed(0)
    ours, layers, last, run = family()
    both = pairs(ours, layers, last)
    assert len(both) == len(list(ours.parameters()))
    with torch.no_grad():
        for own, theirs in both:
            for parameter in theirs:  # also where a library starts with zeros and ones
                parameter.add_(torch.randn_like(parameter) * 0.1)
            own.copy_(torch.cat(theirs))
    x_KD = torch.randn(sum(LENGTHS), WIDTH)
    weight_KD = torch.randn(sum(LENGTHS), WIDTH)
    expected = torch.cat([run(x[None])[0] for x in x_KD.split(LENGTHS)])
    got = ours(x_KD, LAYOUT).x_KD
    assert near(got, expected)
    (expected * weight_KD).sum().backward()
    (got * weight_KD).sum().backward()
    for own, theirs in both:
        assert near(own.grad, torch.cat([p.grad for p in theirs]))
