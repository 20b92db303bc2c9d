"""Masked autoencoding as one recipe of parts, against transformers' ViTMAE on the same weights and the same mask."""

import pytest
import torch
from torch import nn

from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.modality import Modality
from mmm.core.tokens import Piece, Sample, pack
from mmm.corruptions.drop import Drop
from mmm.decoders.transformer_decoder import TransformerDecoder
from mmm.encoders.transformer import Transformer
from mmm.nn.positions import sinusoidal
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.pixels import Pixels
from mmm.testing import near
from mmm.testing.toys import ToyPatches, _Grid, tiny_model

SIDE, PATCH, RECORDS = 4, 2, 3  # patches a side, pixels a patch's side


class Cells(_Grid):
    """A class token, then the patches of a grey picture."""

    def tokenize(self, raw, draw=None):
        rows = raw.unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH).reshape(-1, PATCH**2)
        yx = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"), -1).reshape(-1, 2)
        place = nn.functional.pad(yx, (0, 0, 1, 0))
        return Piece(nn.functional.pad(rows, (0, 0, 1, 0)), place, maskable=torch.arange(len(place)) > 0)


class Pictures(ToyPatches):
    def __init__(self):
        Modality.__init__(self)
        self.tokenizer = Cells()

    def build(self, width):
        self.project, self.cls = nn.Linear(PATCH**2, width), nn.Parameter(torch.zeros(width))

    def embed(self, content_R, layout_N, hidden_N):
        x_ND = self.project(content_R) + sinusoidal(layout_N.position_TC, len(self.cls), 2)
        return torch.where(layout_N.maskable_T[:, None], x_ND, self.cls)


class Given(Masking):
    """The ranking that the other implementation was given as noise; it keeps the lowest."""

    def __init__(self, rate, noise):
        super().__init__(rate)
        self.rank_T = -nn.functional.pad(noise, (1, 0)).flatten()

    def rank(self, tokens, progress, draw):
        return self.rank_T


def blocks(ours, theirs):
    for block, layer in zip(ours, theirs, strict=True):
        a = layer.attention
        yield block.attention.qkv, (a.q_proj, a.k_proj, a.v_proj)
        yield from ((block.attention.out, (a.o_proj,)), (block.mlp.up, (layer.mlp.fc1,)), (block.mlp.down, (layer.mlp.fc2,)))
        yield from ((block.norm1, (layer.layernorm_before,)), (block.norm2, (layer.layernorm_after,)))


@pytest.mark.parametrize("normalise", [False, True])
def test_mae(normalise):
    from transformers import ViTMAEConfig, ViTMAEForPreTraining
    from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

    torch.manual_seed(0)
    theirs = ViTMAEForPreTraining(
        ViTMAEConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            layer_norm_eps=1e-5,
            num_channels=1,
            image_size=SIDE * PATCH,
            patch_size=PATCH,
            decoder_hidden_size=16,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=64,
            mask_ratio=0.75,
            norm_pix_loss=normalise,
        )
    )
    noise, pixels = torch.rand(RECORDS, SIDE**2), torch.randn(RECORDS, SIDE * PATCH, SIDE * PATCH)
    model = tiny_model({"picture": Pictures()}, Transformer(32, 2, 4), TransformerDecoder(16, 2, 2))
    objective = MaskedModeling(Given(0.75, noise), Drop(), {"picture": Pixels(normalise)})
    objective.setup(model)
    tokenizer = model.modalities["picture"].tokenizer
    tokens = pack([Sample({"picture": tokenizer.tokenize(p)}, i) for i, p in enumerate(pixels)], {"picture": tokenizer})

    vit, decoder, modality = theirs.vit, theirs.decoder, model.modalities["picture"]
    modules = [
        *blocks(model.encoder.blocks, vit.layers),
        *blocks(model.decoder.blocks, decoder.decoder_layers),
        (model.encoder.norm, (vit.layernorm,)),
        (model.decoder.norm, (decoder.decoder_norm,)),
        (model.decoder.project, (decoder.decoder_embed,)),
        (model.heads["picture/Pixels"].output, (decoder.decoder_pred,)),
        (modality.project, (vit.embeddings.patch_embeddings.projection,)),
    ]
    pairs = [(p, [getattr(m, n) for m in other]) for own, other in modules for n, p in own.named_parameters(recurse=False)]
    pairs += [(modality.cls, [vit.embeddings.cls_token]), (model.decoder.mask_vector, [decoder.mask_token])]
    assert len(pairs) == len(list(model.parameters()))
    with torch.no_grad():
        for own, other in pairs:
            for parameter in other:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            own.copy_(torch.cat(other).reshape(own.shape))
        for table in (
            vit.embeddings.position_embeddings,
            decoder.decoder_pos_embed,
        ):  # left empty by the library in a fresh model
            width = table.shape[-1]
            table.copy_(build_2d_sinusoidal_position_embedding(SIDE, SIDE, width, cls_token=True).roll(width // 2, dims=1))

    lengths = []
    model.encoder.register_forward_hook(lambda encoder, args, out: lengths.append(len(out.x_KD)))
    expected = theirs(pixels[:, None], noise=noise)
    views = objective.views(tokens, 0, Draw(0))
    (term,) = objective(model, tokens, views, 0)
    assert lengths == [RECORDS * (1 + SIDE**2 // 4)]  # the class token and the visible quarter, nothing else
    hidden = torch.zeros(len(tokens)).index_fill(0, views[0].answer_N, 1).view(RECORDS, -1)[:, 1:]
    assert torch.equal(hidden, expected.mask)
    (answer,) = objective.answers(model, tokens, views)
    assert near(answer.output_NV, expected.logits[expected.mask.bool()])
    loss = term.total / term.count
    assert float(loss.detach()) == pytest.approx(float(expected.loss.detach()), abs=1e-5)
    loss.backward()
    expected.loss.backward()
    for own, other in pairs:
        assert near(own.grad, torch.cat([p.grad for p in other]).reshape(own.shape))
