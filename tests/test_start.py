"""Runs that begin from a pretrained model: what is taken, what is refused, what a checkpoint then holds."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny import save, values, write

from mmm.check import check
from mmm.core.errors import BadRecipe
from mmm.loading import load
from mmm.overrides import parse_overrides
from mmm.recipe import ladder, read
from mmm.run import run


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A finished run of text and protein in ``out``, and files of its modalities and of images."""
    folder = tmp_path_factory.mktemp("start")
    files = write(folder / "files", ("text", "protein", "image"), records=40)
    recipe = values({name: files[name] for name in ("text", "protein")})
    recipe["model"]["modality_vector"] = True
    recipe["model"]["encoder"]["init_args"]["depth"] = 2
    run(save(folder / "tiny.yaml", recipe), run_dir=str(folder / "out"))
    return folder


def further(home: Path, name: str = "text", steps: int = 2, **model) -> dict:
    """A recipe that goes on with one modality and says nothing of the body."""
    recipe = values({name: f"{home}/files/{ {'text': '*.txt', 'protein': 'some.fasta', 'image': '*.npz'}[name] }"}, steps)
    recipe["model"] = {"objective": recipe["model"]["objective"], **model}
    return {"init_from": str(home / "out"), **recipe}


def begun(home: Path, tmp_path: Path, recipe: dict, *words: str):
    """A run of this recipe."""
    path = save(tmp_path / "on.yaml", recipe)
    folder = run(path, words, run_dir=str(tmp_path / "on"))
    return load(folder)


def test_the_body_is_the_sources(home, tmp_path):
    recipe = further(home)
    recipe["model"]["optimizer"] = {"lr": 0.0, "weight_decay": 0.0}
    there, here = load(home / "out"), begun(home, tmp_path, recipe)
    assert here.model.names == ("text",)
    ours, theirs = here.model.state_dict(), there.model.state_dict()
    assert torch.equal(ours.pop("modality_vector.weight")[0], theirs["modality_vector.weight"][0])
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    assert here.assets["modalities/text"] == there.assets["modalities/text"]


def test_outputs_are_the_sources_before_training(home, tmp_path):
    recipe = further(home)
    recipe["model"]["optimizer"] = {"lr": 0.0, "weight_decay": 0.0}
    here, there = begun(home, tmp_path, recipe), load(home / "out")
    records = ["mask the token", "a [MASK] row"]
    with torch.no_grad():
        for a, b in zip(here.logits(records), there.logits(records), strict=True):
            assert torch.equal(a, b)


def test_a_run_alone_holds_all_it_needs(home, tmp_path):
    shutil.copytree(home / "out", tmp_path / "out")
    recipe = {**further(home), "init_from": str(tmp_path / "out")}
    path = save(tmp_path / "on.yaml", recipe)
    folder = run(path, run_dir=str(tmp_path / "on"))
    shutil.rmtree(tmp_path / "out")
    assert len(load(folder).hidden(["the token"])[0])


def test_resuming_goes_on_from_its_own_weights(home, tmp_path):
    path = save(tmp_path / "on.yaml", further(home, steps=4))
    whole = run(path, run_dir=str(tmp_path / "whole"), checkpoint_every=2)
    shutil.copytree(whole, tmp_path / "half")
    (tmp_path / "half" / "checkpoints" / "step-4.ckpt").unlink()
    half = run(path, run_dir=str(tmp_path / "half"), resume=True, checkpoint_every=2)
    assert (half / "losses.csv").read_bytes() == (whole / "losses.csv").read_bytes()


def test_what_was_done_is_said_and_kept(home, tmp_path, caplog):
    caplog.set_level("INFO", "mmm")
    begun(home, tmp_path, further(home, "protein"), "--model.objective.init_args.heads.protein", "transform")
    said = caplog.text
    assert "parameters loaded" in said
    assert "newly made: heads.protein/TokenIds" in said
    assert "not taken over: heads.text/TokenIds" in said
    kept = json.loads((tmp_path / "on" / "summary.json").read_text())["init_from"]
    assert kept["source"] == str(home / "out")
    assert kept["loaded"] > 0


def refused(home, tmp_path, recipe: dict, *words: str) -> str:
    path = save(tmp_path / "on.yaml", recipe)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        run(path, words, run_dir=str(tmp_path / "on"))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_width_is_refused(home, tmp_path):
    encoder = {"class_path": "Transformer", "init_args": {"width": 32, "depth": 2, "heads": 2}}
    said = refused(home, tmp_path, further(home, encoder=encoder))
    assert "(32" in said
    assert "(16" in said
    assert str(home / "out") in said


def test_another_depth_is_refused(home, tmp_path):
    said = refused(home, tmp_path, further(home), "--model.encoder.init_args.depth", "3")
    assert "encoder.blocks.2" in said
    assert "absent there" in said


def test_a_modality_that_the_source_lacks_is_refused(home, tmp_path):
    said = refused(home, tmp_path, further(home, "image"))
    assert "'image'" in said
    assert "text, protein" in said


def test_another_tokenizer_is_refused(home, tmp_path):
    text = {"class_path": "Text", "init_args": {"vocabulary": 300, "max_length": 24, "record_words": 8}}
    said = refused(home, tmp_path, further(home, modalities={"text": text}))
    assert "vocabulary" in said
    assert "300" in said
    assert "270" in said


def test_another_class_of_modality_is_refused(home, tmp_path):
    said = refused(home, tmp_path, further(home, modalities={"text": {"class_path": "Protein", "init_args": {}}}))
    assert "Protein" in said
    assert "Text" in said


def test_a_new_embedding_under_a_trained_body(home, tmp_path):
    text = {"class_path": "Text", "init_args": {"vocabulary": 300, "max_length": 24, "record_words": 8}}
    recipe = further(home, modalities={"text": text})
    recipe["init_from"] = {"source": str(home / "out"), "new": ["text"]}
    here, there = begun(home, tmp_path, recipe, "--adapter", "embeddings"), load(home / "out")
    assert here.assets["modalities/text"] != there.assets["modalities/text"]
    for name, tensor in here.model.encoder.state_dict().items():
        assert torch.equal(tensor, there.model.encoder.state_dict()[name]), name
    assert not here.model.modalities["text"].embedding.weight.equal(there.model.modalities["text"].embedding.weight)


def test_reading_may_change_where_weights_do_not(home, tmp_path):
    recipe = further(home)
    here = begun(home, tmp_path, recipe, "--model.modalities.text.init_args.max_length", "16")
    assert here.modalities["text"].tokenizer.max_length == 16


def test_a_source_that_is_not_there(home, tmp_path):
    recipe = {**further(home), "init_from": str(tmp_path / "nowhere.ckpt")}
    assert "nowhere.ckpt" in refused(home, tmp_path, recipe)


def test_every_rung_of_the_ladder_trains(home, tmp_path):
    path = save(tmp_path / "on.yaml", further(home))
    for name, rung in ladder().items():
        if not any("objective" in key for key in rung.get("set") or {}):  # those are settings of task objectives
            recipe = read(path, ["--adapter", name])
            assert recipe.values["adapter"] == name
            folder = run(path, ["--adapter", name], run_dir=str(tmp_path / name))
            assert load(folder).hidden(["the token"])[0].shape[1] == 16


def test_ones_own_settings_win_over_a_rung(home, tmp_path):
    path = save(tmp_path / "on.yaml", further(home))
    recipe = read(path, ["--adapter", "lora", "--model.optimizer.lr", "0.5"])
    assert recipe.values["model"]["optimizer"]["init_args"]["lr"] == 0.5


def test_an_unknown_rung(home, tmp_path):
    assert "Did you mean 'lora'" in refused(home, tmp_path, further(home), "--adapter", "lorra")


def test_frozen_parameters_stay(home, tmp_path):
    here = begun(home, tmp_path, further(home, steps=3), "--adapter", "probe")
    there = load(home / "out").model.state_dict()
    for name, tensor in here.model.state_dict().items():
        if not name.startswith("heads.") and name != "modality_vector.weight":
            assert torch.equal(tensor, there[name]), name


def test_overrides_are_pairs():
    assert parse_overrides(["--init_from", "runs/x"]) == [("init_from", "runs/x")]


def test_check_compares_shapes_without_training(home, tmp_path):
    path = save(tmp_path / "on.yaml", further(home))
    assert "sound" in check(path)
    with pytest.raises(BadRecipe, match="absent there"):
        check(path, ["--model.encoder.init_args.depth", "3"])


def test_a_recipe_without_a_body_asks_for_a_source(home, tmp_path):
    recipe = further(home)
    del recipe["init_from"]
    assert "--init_from" in refused(home, tmp_path, recipe)


def test_an_objective_of_many_modalities_is_narrowed_to_those_of_the_data(home, tmp_path):
    recipe = further(home)
    del recipe["model"]["objective"]
    here = begun(home, tmp_path, recipe)
    assert here.model.names == ("text",)
    assert list(here.model.heads) == ["text/TokenIds"]


def test_a_cloze_takes_the_kind_of_its_head_from_the_source(home, tmp_path):
    recipe = further(home, "protein")
    source = run(
        save(tmp_path / "tied.yaml", recipe), ["--model.objective.init_args.heads.protein", "tied"], str(tmp_path / "s")
    )
    words = {"one": "A", "two": "C"}
    cloze = {"pattern": "{record}[MASK]", "verbalizer": words, "target": "TokenIds"}
    recipe = {**recipe, "init_from": str(source), "model": {"objective": {"class_path": "Cloze", "init_args": cloze}}}
    values = read(save(tmp_path / "cloze.yaml", recipe)).values
    assert values["model"]["objective"]["init_args"]["head"] == "tied"


def test_a_vocabulary_grows_and_its_old_rows_stay(home, tmp_path):
    words = ["--model.modalities.text.init_args.extra", "6", "--model.objective.init_args.heads.text", "tied"]
    still = {"lr": 0.0, "weight_decay": 0.0}
    path = save(tmp_path / "on.yaml", further(home, optimizer=still))
    folder = run(path, words, run_dir=str(tmp_path / "on"))
    here, there = load(folder), load(home / "out")
    tokenizer, before = here.modalities["text"].tokenizer, there.modalities["text"].tokenizer
    rows, old_rows = here.model.modalities["text"].embedding.weight, there.model.modalities["text"].embedding.weight
    assert 0 < tokenizer.size - before.size <= 6
    assert torch.equal(rows[: before.size], old_rows)
    for i, old in tokenizer.added.items():
        torch.testing.assert_close(rows[i], old_rows[old].mean(0))
        assert len(old) > 1
    text = "the encoder of a layout"
    assert len(here.piece(text)[1]) < len(there.piece(text)[1])
    assert tokenizer.detokenize(here.piece(text)[1].content) == text

    again = save(tmp_path / "again.yaml", {**further(home, optimizer=still), "init_from": str(folder)})
    further_on = load(run(again, run_dir=str(tmp_path / "again")))
    assert torch.equal(further_on.model.modalities["text"].embedding.weight, rows)
    assert further_on.modalities["text"].tokenizer.size == tokenizer.size
