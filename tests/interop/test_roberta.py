"""RoBERTa and its kin in and out: outputs and gradients of the transformers library."""

import pytest
from id_models import SIZES, STILL, agrees, byte_bpe, returns, shaken

import mmm

TEXTS = ["The cat sat on the Mat.", "a <mask> b", "No", "Where  did the dog go, after <mask> had seen the<mask>?"]
PAIRS = [("The cat sat.", "No <mask>"), ("a", "the dog saw the cat"), ("where", "Where?")]


def saved(folder, kind, **changes):
    import transformers

    model = getattr(transformers, kind)
    specials = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5, "type_vocab_size": 1}
    places = {"max_position_embeddings": 66, "vocab_size": byte_bpe(folder)}
    shaken(model(model.config_class(**{**SIZES, **STILL, **specials, **places, **changes}))).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("RobertaForMaskedLM", {}),
        ("RobertaForMaskedLM", {"tie_word_embeddings": False, "hidden_act": "relu"}),
        ("RobertaModel", {"type_vocab_size": 2}),
        ("XLMRobertaForMaskedLM", {}),
        ("CamembertForMaskedLM", {}),
        ("Data2VecTextForMaskedLM", {}),
    ],
)
def test_outputs_and_gradients(tmp_path, kind, changes):
    source, ours = agrees(saved(tmp_path / "m", kind, **changes), TEXTS)
    assert ours.modalities["text"].tokenizer.max_length == 64
    agrees(tmp_path / "m", PAIRS)
    if kind.startswith("Roberta") and "hidden_act" not in changes:
        returns(source, ours, TEXTS, tmp_path / "back")


def test_a_tokenizer_that_adds_nothing_is_taken_at_its_word(tmp_path):
    from tokenizers import Tokenizer

    saved(tmp_path, "RobertaForMaskedLM")
    model = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = model.to_str()
    start = text.index('"post_processor":')
    end = text.index('"decoder":')
    (tmp_path / "tokenizer.json").write_text(text[:start] + '"post_processor":null,' + text[end:], encoding="utf-8")
    _, ours = agrees(tmp_path, TEXTS)
    assert len(ours.piece("No")[1]) == len(
        mmm.load(tmp_path).modalities["text"].tokenizer.model.encode("No", add_special_tokens=False)
    )
