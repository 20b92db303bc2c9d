"""ModernBERT in and out: outputs and gradients of the transformers library."""

import pytest
from id_models import SIZES, TEXTS, agrees, byte_bpe, returns, shaken

import mmm
from mmm.core.errors import BadRecipe
from mmm.interop.architecture import Misfit

RECORDS = [t.replace("[MASK]", "<mask>") for t in TEXTS]
SPECIALS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}


THETAS = {"full": 500.0, "sliding": 70.0}


def saved(folder, kind="ModernBertForMaskedLM", pad=12, **changes):
    import transformers

    places = {"max_position_embeddings": 90, "vocab_size": byte_bpe(folder) + pad, "local_attention": 8}
    settings = transformers.ModernBertConfig(**{**SIZES, **SPECIALS, **places, **changes})
    shaken(getattr(transformers, kind)(settings)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kind": "ModernBertModel", "pad": 0},
        {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True, "norm_eps": 1e-3},
        {"tie_word_embeddings": False},
        {"hidden_activation": "silu", "layer_types": ["full_attention"] * 3},
        {"num_hidden_layers": 4, "layer_types": ["full_attention", "sliding_attention"] * 2},
        {"rope_parameters": {f"{k}_attention": {"rope_type": "default", "rope_theta": t} for k, t in THETAS.items()}},
    ],
)  # fmt: skip
def test_outputs_and_gradients(tmp_path, changes):
    source, ours = agrees(saved(tmp_path / "m", **changes), RECORDS)
    returns(source, ours, RECORDS, tmp_path / "back")


@pytest.mark.parametrize(
    "changes",
    [{"norm_bias": True}, {"attention_bias": True}, {"mlp_bias": True}, {"classifier_bias": True}, {"decoder_bias": False}],
)
def test_a_bias_that_is_there_in_part(tmp_path, changes):
    agrees(saved(tmp_path, **changes), RECORDS)


def test_a_bias_that_has_no_place_is_not_lost(tmp_path):
    """Trained on, a head without a bias here has one; then there is no way back, and that is said."""
    from mmm.interop.links import revert
    from mmm.interop.modernbert import ModernBert
    from mmm.sources import open_source

    source = open_source(saved(tmp_path, decoder_bias=False))
    theirs = source.original.model.state_dict()
    state = {n.removeprefix("model."): t for n, t in source.state.items()}
    links = ModernBert().links(source.original.config, theirs.keys())
    revert(state, links)
    state["heads.text/TokenIds.bias"] = state["heads.text/TokenIds.bias"] + 1
    with pytest.raises(Misfit, match="decoder has no bias"):
        revert(state, links)


def test_what_cannot_be_read(tmp_path):
    for name, changes, match in (
        ("act", {"hidden_activation": "relu"}, "hidden_activation 'relu' has no counterpart"),
        ("head", {"classifier_activation": "relu"}, "classifier_activation 'relu' has no counterpart"),
        ("layers", {"layer_types": ["sliding_attention"] * 3}, "layer_types"),
    ):
        with pytest.raises(BadRecipe, match=match):
            mmm.load(saved(tmp_path / name, **changes))
