"""BERT in and out: outputs and gradients of the transformers library."""

import pytest
import torch
from id_models import SIZES, STILL, TEXTS, agrees, leaves, own, returns, shaken, wordpiece

import mmm
from mmm.core.errors import BadRecipe


def config(ids, **changes):
    from transformers import BertConfig

    return BertConfig(**{**SIZES, **STILL, "vocab_size": ids, "max_position_embeddings": 40, **changes})


def saved(folder, kind="BertForMaskedLM", pad=0, **changes):
    import transformers

    model = shaken(getattr(transformers, kind)(config(wordpiece(folder) + pad, **changes)))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("BertForMaskedLM", {}),
        ("BertForMaskedLM", {"tie_word_embeddings": False}),
        ("BertForMaskedLM", {"layer_norm_eps": 1e-3, "type_vocab_size": 1, "pad": 7}),
        ("BertForPreTraining", {}),
        ("BertModel", {"hidden_act": "relu", "type_vocab_size": 3}),
        ("BertModel", {"hidden_act": "gelu_new"}),
    ],
)
def test_outputs_and_gradients(tmp_path, kind, changes):
    saved(tmp_path / "m", kind, **changes)
    source, ours = agrees(tmp_path / "m", TEXTS)
    pairs = [("The cat sat.", "No [MASK]"), ("a b", "the dog saw the cat and go"), ("where", "Where?")]
    if changes.get("type_vocab_size") != 1:
        agrees(tmp_path / "m", pairs)
    returns(source, ours, TEXTS, tmp_path / "back")


def test_pre_training_can_go_on(tmp_path):
    saved(tmp_path, hidden_dropout_prob=0.1)
    model = mmm.load(tmp_path)
    assert type(model.objective).__name__ == "MaskedModeling"
    assert model.model.encoder.blocks[0].dropout.p == model.model.modalities["text"].dropout.p == 0.1
    head = model.model.heads["text/TokenIds"]
    assert head.kind == "tied"
    assert head.weight is model.model.modalities["text"].embedding.weight


def test_a_wrong_weight_is_noticed(tmp_path, monkeypatch):
    from mmm.interop.bert import Bert

    saved(tmp_path)
    plain = Bert.links

    def swapped(self, config, names):
        links = plain(self, config, names)
        a, b = (next(i for i, k in enumerate(links) if k.ours == (f"encoder.blocks.{n}.mlp.up.bias",)) for n in (0, 1))
        links[a], links[b] = (type(k)(k.theirs, o.ours) for k, o in ((links[a], links[b]), (links[b], links[a])))
        return links

    monkeypatch.setattr(Bert, "links", swapped)
    with pytest.raises(BadRecipe, match="the import is refused"):
        mmm.load(tmp_path)


def test_what_cannot_be_read(tmp_path):
    saved(tmp_path / "decoder", is_decoder=True)
    with pytest.raises(BadRecipe, match="is_decoder True has no counterpart"):
        mmm.load(tmp_path / "decoder")
    saved(tmp_path / "relu", hidden_act="relu")
    with pytest.raises(BadRecipe, match="hidden_act 'relu' has no counterpart"):
        mmm.load(tmp_path / "relu")
    saved(tmp_path / "silu", "BertModel", hidden_act="silu")
    with pytest.raises(BadRecipe, match=r"hidden_act 'silu'.*gelu"):
        mmm.load(tmp_path / "silu")
    saved(tmp_path / "bare")
    for name in ("tokenizer.json", "vocab.txt"):
        (tmp_path / "bare" / name).unlink(missing_ok=True)
    with pytest.raises(BadRecipe, match=r"no tokenizer beside the weights.*tokenizer.json, vocab.txt"):
        mmm.load(tmp_path / "bare")
    saved(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(BadRecipe, match="cannot be read safely"):
        mmm.load(tmp_path / "cut")
    saved(tmp_path / "few", pad=-6)
    with pytest.raises(BadRecipe, match="belongs to another model"):
        mmm.load(tmp_path / "few")


def test_code_in_a_pickle_is_not_run(tmp_path):
    saved(tmp_path)
    (tmp_path / "model.safetensors").unlink()

    class Sings:
        def __reduce__(self):
            return (open, (str(tmp_path / "sung"), "w"))

    torch.save({"bert.embeddings.word_embeddings.weight": Sings()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BadRecipe, match="cannot be read safely"):
        mmm.load(tmp_path)
    assert not (tmp_path / "sung").exists()


def test_a_model_of_ours_becomes_a_bert(tmp_path):
    """recipes/text/bert-tiny.yaml in small; and what does not fit says why."""
    from mmm.interop.architecture import Misfit
    from mmm.interop.bert import Bert

    arguments = {"vocabulary": 300, "max_length": 40, "positions": "learned", "norm": True}
    encoder = {"width": 32, "depth": 2, "heads": 4, "order": "post"}
    ours = own("Text", arguments, encoder, records=TEXTS)
    leaves(Bert(), ours, TEXTS, tmp_path / "back")
    for changed, more, head, match in (
        ({}, {"order": "pre"}, "tied", "order 'pre', and there it is 'post'"),
        ({}, {"eps": 1e-3}, "tied", "different eps"),
        ({}, {"dropout": 0.1}, "tied", "different dropout"),
        ({}, {}, "linear", "its head is 'linear'"),
        ({"positions": "none"}, {"rotary": 1}, "tied", "rotary 1"),
        ({"norm": False}, {}, "tied", "no LayerNorm"),
        ({"embedding": {"width": 16}}, {}, "tied", "width 16"),
    ):
        with pytest.raises(Misfit, match=match):
            Bert().export(own("Text", {**arguments, **changed}, {**encoder, **more}, head, TEXTS))
