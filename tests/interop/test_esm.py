"""ESM-2 and ESM-1b in and out: outputs and gradients of transformers and of fair-esm."""

import argparse

import pytest
import torch
from id_models import PROTEINS, SIZES, STILL, agrees, check_gradients, leaves, own, returns, shaken

import mmm
from mmm.core.errors import BadRecipe
from mmm.modalities.protein import Vocabulary


def saved(folder, kind="EsmForMaskedLM", **changes):
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(Vocabulary.of_esm().tokens), encoding="utf-8")
    transformers.EsmTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    settings = {
        **SIZES, **STILL, "vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1, "max_position_embeddings": 60,
        "position_embedding_type": "rotary", "token_dropout": True, "layer_norm_eps": 1e-5, **changes,
    }  # fmt: skip
    model = shaken(getattr(transformers, kind)(transformers.EsmConfig(**settings)))
    return folder, model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"token_dropout": False, "emb_layer_norm_before": True, "layer_norm_eps": 1e-3, "rope_theta": 300.0},
        {"position_embedding_type": "absolute", "emb_layer_norm_before": True},
        {"tie_word_embeddings": False},
        {"kind": "EsmModel"},
    ],
)
def test_outputs_and_gradients(tmp_path, changes):
    folder, model = saved(tmp_path / "m", **changes)
    model.save_pretrained(folder)
    source, ours = agrees(folder, PROTEINS)
    assert list(ours.modalities) == ["protein"]
    returns(source, ours, PROTEINS, tmp_path / "back")


def test_token_dropout_is_there_in_training(tmp_path):
    """Masks that the objective sets are zeros, and the rest is as large as the model is used to."""
    folder, model = saved(tmp_path)
    model.save_pretrained(folder)
    modality = mmm.load(folder).modalities["protein"]
    ours = mmm.load(folder).train()
    piece = modality.tokenizer.tokenize("MKTAYIAKQR")
    tokens = ours.view("protein", [(0, piece)])[2].tokens
    part = tokens.part("protein")
    hidden = torch.zeros(12, dtype=torch.bool)
    hidden[3:6] = True
    got = ours.modalities["protein"].embed(part.content_R, part.layout_N, hidden)
    shown = torch.where(hidden, modality.tokenizer.mask, part.content_R)[None]
    want = model.esm.embeddings(input_ids=shown, attention_mask=torch.ones_like(shown))[0]
    assert torch.allclose(got, want, atol=1e-6)
    assert not got[3:6].any()


def test_frequencies_of_half_precision_are_kept(tmp_path):
    folder, model = saved(tmp_path / "m", rope_theta=77.0)
    turn = model.esm.rotary_embeddings
    turn.inv_freq.copy_(turn.inv_freq.half())
    model.save_pretrained(folder)
    source, ours = agrees(folder, [*PROTEINS, "ACDEFGHIKL" * 5])
    assert ours.model.encoder.half_frequencies
    returns(source, ours, PROTEINS, tmp_path / "back")
    turn.inv_freq.mul_(1.5)
    model.save_pretrained(folder)
    with pytest.raises(BadRecipe, match="inv_freq"):
        mmm.load(folder)


def fair_esm2(path, token_dropout=True):
    import esm

    model = shaken(esm.ESM2(num_layers=2, embed_dim=32, attention_heads=4, token_dropout=token_dropout))
    said = argparse.Namespace(encoder_layers=2, encoder_embed_dim=32, encoder_attention_heads=4, token_dropout=token_dropout)
    weights = {f"encoder.sentence_encoder.{n}": t for n, t in model.state_dict().items() if "contact" not in n}
    torch.save({"cfg": {"model": said}, "model": weights}, path)
    return model


def fair_esm1b(path, norm=True):
    import esm

    said = {
        "arch": "roberta_large",
        "layers": 2,
        "embed_dim": 32,
        "ffn_embed_dim": 48,
        "attention_heads": 4,
        "max_positions": 60,
    }
    said = argparse.Namespace(**said, token_dropout=True, emb_layer_norm_before=norm, final_bias=True)
    model = esm.ProteinBertModel(said, esm.Alphabet.from_architecture("ESM-1b"))
    shaken(model)
    with torch.no_grad():
        model.embed_tokens.weight[32] = 0  # as its loader leaves it
    weights = {f"encoder.sentence_encoder.{n}": t for n, t in model.state_dict().items() if "contact" not in n}
    named = {
        f"encoder_{n}" if n in ("layers", "embed_dim", "ffn_embed_dim", "attention_heads") else n: v
        for n, v in vars(said).items()
    }
    torch.save({"args": argparse.Namespace(**named), "model": weights}, path)
    return model


@pytest.mark.parametrize("make", [fair_esm2, lambda p: fair_esm2(p, False), fair_esm1b, lambda p: fair_esm1b(p, False)])
def test_fair_esm(tmp_path, make):
    import esm

    from mmm.sources import open_source

    model = make(tmp_path / "esm2_t2_tiny.pt")
    source = open_source(tmp_path / "esm2_t2_tiny.pt")
    ours = source.loaded()
    _, _, tokens = esm.Alphabet.from_architecture("ESM-1b").get_batch_converter()([("", p) for p in PROTEINS])
    answer = model(tokens, repr_layers=[2])
    lengths = (tokens != 1).sum(1).tolist()
    expected = [(answer["representations"][2][i, :n], answer["logits"][i, :n]) for i, n in enumerate(lengths)]
    hidden, logits = ours.hidden(PROTEINS), ours.logits(PROTEINS)
    for (want, scores), got, said in zip(expected, hidden, logits, strict=True):
        assert (got - want).abs().max() < 1e-4
        assert (said - scores).abs().max() < 1e-4
    check_gradients(source, ours, model, expected, hidden, logits, 1e-4)


def test_a_published_name(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(BadRecipe, match=r"not on this machine; download https.*esm2_t6_8M_UR50D.pt to .*checkpoints"):
        mmm.load("esm2_t6_8M_UR50D")
    (tmp_path / "checkpoints").mkdir()
    model = fair_esm2(tmp_path / "checkpoints" / "esm2_t6_8M_UR50D.pt")
    assert torch.allclose(
        mmm.load("esm2_t6_8M_UR50D").logits(["MK"])[0], model(torch.tensor([[0, 20, 15, 2]]))["logits"][0], atol=1e-5
    )


def test_checkpoints_that_are_none(tmp_path):
    class Sings:
        def __reduce__(self):
            return (open, (str(tmp_path / "sung"), "w"))

    path = tmp_path / "esm2_t2.pt"
    fair_esm2(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a checkpoint that can be read safely"):
        mmm.load(path)
    torch.save({"model": {"a": Sings()}, "args": Sings()}, path)
    with pytest.raises(ValueError, match="not a checkpoint that can be read safely"):
        mmm.load(path)
    assert not (tmp_path / "sung").exists()
    torch.save({"model": {"a": torch.zeros(2)}, "args": argparse.Namespace(arch="roberta_small")}, path)
    with pytest.raises(BadRecipe, match=r"roberta_small.*dict.txt"):
        mmm.load(path)
    torch.save({"model": {"a": torch.zeros(2)}, "cfg": {"model": argparse.Namespace(encoder_layers=1)}}, path)
    with pytest.raises(BadRecipe, match="fair-esm cannot read it"):
        mmm.load(path)


def test_a_model_of_ours_becomes_an_esm(tmp_path):
    """recipes/protein/esm2-tiny.yaml in small."""
    from mmm.interop.esm import Esm

    ours = own("Protein", {"max_length": 64}, {"width": 32, "depth": 2, "heads": 4, "rotary": 1})
    made = leaves(Esm(), ours, PROTEINS, tmp_path / "back")
    assert made.config["rope_theta"] == 10000.0
    assert not made.config["token_dropout"]
