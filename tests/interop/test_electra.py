"""ELECTRA in and out: outputs and gradients of the transformers library."""

import pytest
from id_models import SIZES, STILL, TEXTS, agrees, returns, shaken, wordpiece
from tiny import save, values

import mmm
from mmm.core.errors import BadRecipe
from mmm.run import run


def saved(folder, kind, **changes):
    import transformers

    settings = {
        **SIZES,
        **STILL,
        "vocab_size": wordpiece(folder),
        "max_position_embeddings": 40,
        "embedding_size": 20,
        **changes,
    }
    shaken(getattr(transformers, kind)(transformers.ElectraConfig(**settings))).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["ElectraForMaskedLM", "ElectraForPreTraining", "ElectraModel"])
@pytest.mark.parametrize("changes", [{}, {"embedding_size": 32}])
def test_outputs_and_gradients(tmp_path, kind, changes):
    source, ours = agrees(saved(tmp_path / "m", kind, **changes), TEXTS)
    returns(source, ours, TEXTS, tmp_path / "back")
    if kind == "ElectraForPreTraining":
        assert ours.logits(["a b"])[0].shape[1] == 1
        with pytest.raises(ValueError, match="no objective"):
            ours.objective.views(None, 0.0, None)


def test_a_vocabulary_grows_beside_a_head_of_one_row(tmp_path):
    saved(tmp_path / "m", "ElectraForPreTraining")
    (tmp_path / "some.txt").write_text("\n\n".join(f"the cat {n} seen {m} catbody dogbody" for n in "bcdefg" for m in "hijklm"))
    recipe = values({"text": str(tmp_path / "some.txt")}, 1)
    more = {"text": {"class_path": "Text", "init_args": {"extra": 4, "record_words": 5}}}
    recipe |= {"init_from": str(tmp_path / "m"), "model": {"objective": recipe["model"]["objective"], "modalities": more}}
    here = mmm.load(run(save(tmp_path / "on.yaml", recipe), run_dir=str(tmp_path / "run")))
    assert here.modalities["text"].tokenizer.added


def test_what_cannot_be_read(tmp_path):
    saved(tmp_path / "untied", "ElectraForMaskedLM", tie_word_embeddings=False)
    with pytest.raises(BadRecipe, match="tie_word_embeddings False has no counterpart"):
        mmm.load(tmp_path / "untied")
    saved(tmp_path / "relu", "ElectraForPreTraining", hidden_act="relu")
    with pytest.raises(BadRecipe, match="hidden_act 'relu' has no counterpart"):
        mmm.load(tmp_path / "relu")
