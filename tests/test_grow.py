"""A trained model gets a modality of a plugin that is made here: nothing old changes, what is refused is one line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from installed import declare, importable
from tiny import MODALITIES, Done, mmm, save, values, write

from mmm.checkpoint import load_checkpoint, newest
from mmm.core.errors import BadRecipe
from mmm.grow import compose
from mmm.join import join
from mmm.loaded import Loaded
from mmm.loading import load
from mmm.run import run
from mmm.yaml import load as load_yaml

PLUGIN = '''\
"""Strings of coloured beads, a letter a bead."""

import torch
from torch import nn

from mmm.core.modality import Modality, Record, Tokenizer
from mmm.core.tokens import Piece

COLOURS = "?rgbyk"


class BeadTokenizer(Tokenizer):
    """A letter, an id; the first id is never seen."""

    size, suffixes, choices = len(COLOURS), (".beads",), torch.arange(1, len(COLOURS))

    def __init__(self, coordinates):
        self.coordinates = coordinates

    def tokenize(self, raw, draw=None):
        content = torch.tensor([COLOURS.index(letter) for letter in raw])
        return Piece(content, torch.arange(len(raw))[:, None].repeat(1, self.coordinates))

    def detokenize(self, content_R):
        return "".join(COLOURS[i] for i in content_R)

    def empty(self):
        return torch.zeros(0, dtype=torch.int64)

    def records(self, path):
        for number, line in enumerate(path.read_text().splitlines()):
            yield Record(str(path), number, line, line.encode())

    def length(self, record):
        return len(record.raw)


class Beads(Modality):
    """Beads on a string.

    Args:
        coordinates: of a bead.
    """

    def __init__(self, coordinates: int = 1):
        super().__init__()
        self.tokenizer = BeadTokenizer(coordinates)

    def build(self, width):
        self.embedding = nn.Embedding(len(COLOURS), width)

    def embed(self, content_R, layout_N, hidden_N):
        return self.embedding(content_R.masked_fill(hidden_N, 0))

    def tied(self):
        return self.embedding.weight
'''
RAWS: dict[str, list[Any]] = {
    "text": ["a stream of tokens", "the [MASK] row"],
    "image": [torch.rand(8, 8, generator=torch.Generator().manual_seed(i)).numpy() for i in range(3)],
    "audio": [(torch.sin(torch.arange(2000) / (7.0 + i)), 4000) for i in range(2)],
    "protein": ["MKTAYIAK", "GAVL<mask>MFW"],
}


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory) -> Iterator[None]:
    """What pip would have installed."""
    site = tmp_path_factory.mktemp("site")
    declare(site, "mmm-beads", "mmm_beads")
    (site / "mmm_beads").mkdir()
    (site / "mmm_beads" / "__init__.py").write_text('"""Beads."""\n')
    (site / "mmm_beads" / "beads.py").write_text(PLUGIN)
    with importable(site, package="mmm_beads"):
        yield


def described(home: Path, **objective: Any) -> dict[str, Any]:
    """The plugin's own recipe, as it trains beads alone; it does not say which package it needs."""
    parts = {
        "masking": {"beads": {"class_path": "Span", "init_args": {"rate": 0.4, "mean": 2}}},
        "corruption": {"class_path": "MaskVector", "init_args": {"random": 0.2}},
        "targets": {"beads": "TokenIds"},
        "heads": {"beads": "tied"},
    }
    return {
        "model": {
            "modalities": {"beads": "Beads"},
            "encoder": {"class_path": "Transformer", "init_args": {"width": 24, "depth": 2, "heads": 2}},
            "objective": {"class_path": "MaskedModeling", "init_args": parts | objective},
            "optimizer": {"lr": 0.05, "weight_decay": 0.1, "decay": "constant"},
        },
        "data": {"files": {"beads": str(home / "files" / "some.beads")}, "tokens_per_batch": 256, "validation": 0.3},
        "trainer": {"max_steps": 3, "accelerator": "cpu"},
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A finished run of four modalities in ``out``, files of them and of beads, and ``beads.yaml``."""
    folder = tmp_path_factory.mktemp("grow")
    recipe = values(write(folder / "files", records=40), 2)
    recipe["model"] |= {
        "modality_vector": True,
        "decoder": {"class_path": "TransformerDecoder", "init_args": {"width": 16, "depth": 1, "heads": 2}},
    }
    recipe["model"]["encoder"]["init_args"]["dropout"] = 0.1
    arguments = recipe["model"]["objective"]["init_args"]
    arguments["corruption"] = {"class_path": "MaskVector", "init_args": {"keep": 0.1, "random": {"text": 0.1}}}
    arguments["heads"] = {"text": "tied", "audio": "cosine"}
    run(save(folder / "four.yaml", recipe), run_dir=str(folder / "out"))
    colours = ("rrggbbyykk" * 4)[:25]
    (folder / "files" / "some.beads").write_text(
        "".join(f"{colours[i % 7 : i % 7 + 9 + i % 8]}{'rgb'[i % 3]}\n" for i in range(60))
    )
    save(folder / "beads.yaml", described(folder))
    return folder


@pytest.fixture(scope="module")
def grown(home) -> tuple[Path, Done]:
    """The same with beads, as by default."""
    folder = home / "grown"
    return folder, mmm("grow", home / "out", "--add", f"beads={home / 'beads.yaml'}", "--run_dir", folder)


def said(model: Loaded, name: str) -> list[torch.Tensor]:
    with torch.no_grad():
        return [*model.hidden(RAWS[name], name), *model.logits(RAWS[name], name)]


def same(one: Loaded, other: Loaded, name: str) -> bool:
    """Whether they answer alike, to the bit."""
    pairs = list(zip(said(one, name), said(other, name), strict=True))
    assert len(pairs) == 2 * len(RAWS[name])
    return all(torch.equal(a, b) for a, b in pairs)


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    path = newest(folder)
    assert path is not None
    return load_checkpoint(path)["state_dict"]


# -- frozen --------------------------------------------------------------------------------------------------------------------


def test_nothing_old_changes(home, grown):
    """At step 0 by promise, and after training because all that is old is frozen."""
    folder, done = grown
    assert done.status == 0, done.err
    source, step0, trained = load(home / "out"), load(folder / "step0"), load(folder)
    assert trained.model.names == (*MODALITIES, "beads")
    for name in MODALITIES:
        assert same(source, step0, name)
        assert same(source, trained, name)
    assert not torch.equal(step0.logits(["rgb"], "beads")[0], trained.logits(["rgb"], "beads")[0])


def test_what_is_new_is_trained(home, grown):
    folder, _ = grown
    before, after, source = parameters(folder / "step0"), parameters(folder), parameters(home / "out")
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    new = {n for n in before if "beads" in n}
    tables = {"model.modality_vector.weight", "model.decoder.mask_vector"}
    assert moved - {"model.decoder.mask_vector"} == new | {"model.modality_vector.weight"}
    for name in tables:
        assert before[name].shape[0] == 5
        assert torch.equal(before[name][:4], source[name])
        assert torch.equal(after[name][:4], source[name])
    assert set(before) - new == set(source)


def test_what_the_command_says(home, grown):
    folder, done = grown
    for name in MODALITIES:
        assert f"step 0: the outputs of {name!r} are those of {home / 'out'}, bit for bit (" in done.err
        (line,) = (line for line in done.out.splitlines() if line.startswith(name))
        assert line.endswith("0.000 [0.000, 0.000], the same bits")
    assert "beads.yaml: left aside for what the model has: encoder" in done.err
    assert any(line.startswith("beads     new") for line in done.out.splitlines())
    assert done.out.splitlines()[-2:] == [f"step 0: {folder / 'step0'}", f"report: {folder / 'report.html'}"]
    assert "skill of" not in done.err, "that the run has no data of old modalities is no news"


def test_the_summary_and_the_report(home, grown):
    folder, _ = grown
    facts = json.loads((folder / "summary.json").read_text())
    told = facts["grown"]
    assert (told["source"], told["new"], told["body"]) == (str(home / "out"), ["beads"], 0.0)
    assert json.loads((folder / "step0" / "proof.json").read_text()) == {"source": told["source"], "equal": told["step0"]}
    old_run = json.loads((home / "out" / "summary.json").read_text())["skill"]
    for name in MODALITIES:
        assert told["step0"][name]["records"] > 5
        assert told["step0"][name]["numbers"] > 100
        move = told["old"][name]
        assert move["before"] == move["after"]
        assert move["before"]["records"] == old_run[name]["records"], "on the old run's validation records"
        assert move["before"]["value"] == pytest.approx(old_run[name]["value"], abs=0.2), "masked by other draws"
        assert move["moved"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        assert (move["equal"], move["largest_difference"]) == (True, 0.0)
    assert list(facts["skill"]) == ["beads"]
    page = (folder / "report.html").read_text()
    assert "What became of the rest" in page
    assert "the same bits" in page
    assert "What became of the rest" not in (home / "out" / "report.html").read_text()


def test_the_grown_recipe_is_a_recipe(home, grown, tmp_path):
    folder, _ = grown
    recipe = load_yaml(folder / "recipe.yaml")
    assert recipe["plugins"] == ["mmm-beads"], "though neither recipe said it"
    assert recipe["model"]["adapter"] == {"class_path": "NewModalities", "init_args": {"old": list(MODALITIES), "body": 0.0}}
    arguments = recipe["model"]["objective"]["init_args"]
    assert [m["class_path"] for m in arguments["masking"].values()] == [*["Uniform"] * 4, "Span"]
    shares = arguments["corruption"]["init_args"]
    assert shares["random"] == {"text": 0.1, "beads": 0.2}
    assert shares["keep"] == {"text": 0.1, "image": 0.1, "audio": 0.1, "protein": 0.1, "beads": 0.0}
    assert arguments["heads"] == {"text": "tied", "audio": "cosine", "beads": "tied"}
    printed = mmm("grow", home / "out", "--add", f"beads={home / 'beads.yaml'}", "--print_config")
    assert printed.status == 0
    (tmp_path / "printed.yaml").write_text(printed.out)
    assert mmm("check", tmp_path / "printed.yaml").out.startswith(f"{tmp_path / 'printed.yaml'}: sound")


def test_a_grown_model_grows(home, grown, tmp_path):
    """Its old modalities' data stand in the recipes of the runs it comes from."""
    folder, _ = grown
    again = described(home)
    again["model"]["modalities"] = {"pearls": "Beads", "beads": "Beads"}
    for argument in ("masking", "targets", "heads"):
        arguments = again["model"]["objective"]["init_args"]
        arguments[argument] = {"pearls": arguments[argument]["beads"], "beads": arguments[argument]["beads"]}
    again["data"]["files"] = {"pearls": again["data"]["files"]["beads"], "beads": "of the other one"}
    done = mmm("grow", folder, "--add", f"pearls={save(tmp_path / 'again.yaml', again)}", "--run_dir", tmp_path / "out")
    assert done.status == 0, done.err
    told = json.loads((tmp_path / "out" / "summary.json").read_text())["grown"]
    assert list(told["step0"]) == [*MODALITIES, "beads"]
    assert set(told["old"]) == {*MODALITIES, "beads"}
    assert same(load(folder), load(tmp_path / "out"), "text")


# -- a body that follows, old data beside --------------------------------------------------------------------------------------


def test_a_body_that_follows_moves_the_old_skills(home, tmp_path):
    words = ["--body", "0.5", "--data.files.protein", home / "files" / "some.fasta", "--trainer.max_steps", "6"]
    done = mmm("grow", home / "out", "--add", f"beads={home / 'beads.yaml'}", *words, "--run_dir", tmp_path / "out")
    assert done.status == 0, done.err
    source, step0, trained = load(home / "out"), load(tmp_path / "out" / "step0"), load(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "summary.json").read_text())["grown"]
    for name in MODALITIES:
        assert same(source, step0, name)
        assert not same(source, trained, name)
        move = told["old"][name]
        assert not move["equal"]
        assert move["largest_difference"] > 0
        assert move["moved"]["value"] == pytest.approx(move["after"]["value"] - move["before"]["value"])
        assert move["moved"]["low"] < move["moved"]["value"] < move["moved"]["high"]
    assert told["old"]["protein"]["moved"]["low"] > 0, "it was trained on"
    assert "outputs off by up to" in done.out


def test_a_run_goes_on(home, grown, tmp_path):
    """With the weights an uninterrupted one has, and the same story of the old modalities."""
    words = ["grow", home / "out", "--add", f"beads={home / 'beads.yaml'}", "--run_dir", tmp_path / "out"]
    assert mmm(*words, "--trainer.max_steps", "1").status == 0
    before = (tmp_path / "out" / "step0" / "proof.json").read_bytes()
    done = mmm(*words, "--resume")
    assert done.status == 0, done.err
    assert (tmp_path / "out" / "step0" / "proof.json").read_bytes() == before
    straight, _ = grown
    one, other = parameters(tmp_path / "out"), parameters(straight)
    assert all(torch.equal(one[n], other[n]) for n in other)
    told = [json.loads((folder / "summary.json").read_text())["grown"] for folder in (tmp_path / "out", straight)]
    assert told[0] == told[1]


# -- other sources -------------------------------------------------------------------------------------------------------------


def test_a_model_of_another_library(home, tmp_path):
    """It has no objective and no data here: it is proved on the records of its import, and no skill of it is told."""
    from transformers import HubertConfig, HubertModel

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    small |= {"conv_dim": [16] * 2, "conv_kernel": [10, 8], "conv_stride": [5, 4], "num_conv_pos_embeddings": 8}
    HubertModel(HubertConfig(**small, num_conv_pos_embedding_groups=2)).save_pretrained(tmp_path / "theirs")
    add = f"beads={home / 'beads.yaml'}"
    done = mmm("grow", tmp_path / "theirs", "--add", add, "--run_dir", tmp_path / "out")
    assert done.status == 0, done.err
    assert "step 0: the outputs of 'audio' are those of" in done.err
    assert any(line.startswith("audio     not scored") for line in done.out.splitlines())
    source, sounds = load(tmp_path / "theirs"), [(torch.sin(torch.arange(4000) / 9.0), 16000)]
    for folder in (tmp_path / "out" / "step0", tmp_path / "out"):
        with torch.no_grad():
            assert torch.equal(load(folder).hidden(sounds)[0], source.hidden(sounds)[0])


def test_an_adapter_is_folded_in_or_refused(home, tmp_path):
    adapted = {"init_from": str(home / "out"), **values({"text": str(home / "files" / "*.txt")}, 1)}
    adapted["model"] = {"optimizer": {"lr": 0.1}}
    grow = ["--add", f"beads={home / 'beads.yaml'}", "--trainer.max_steps", "1", "--run_dir", tmp_path / "out"]
    for name in ("lora", "prompt"):
        run(save(tmp_path / "on.yaml", adapted), ["--adapter", name], str(tmp_path / name))
    refused = mmm("grow", tmp_path / "prompt", *grow)
    assert (refused.status, len(refused.errors)) == (2, 1), refused.err
    assert "Prompt cannot be merged" in refused.err
    assert str(tmp_path / "prompt") in refused.err
    assert not (tmp_path / "out").exists()
    done = mmm("grow", tmp_path / "lora", *grow)
    assert done.status == 0, done.err
    for one, other in zip(said(load(tmp_path / "lora"), "text"), said(load(tmp_path / "out"), "text"), strict=True):
        torch.testing.assert_close(one, other)


def test_old_data_that_are_gone(home, tmp_path):
    source = tmp_path / "moved"
    shutil.copytree(home / "out", source)
    checkpoint = newest(source)
    content = load_checkpoint(checkpoint)
    torch.save(content | {"mmm_recipe": content["mmm_recipe"].replace("some.fasta", "gone.fasta")}, checkpoint)
    words = ["grow", source, "--add", f"beads={home / 'beads.yaml'}", "--run_dir", tmp_path / "out", "--trainer.max_steps", "1"]
    refused = mmm(*words)
    assert (refused.status, len(refused.errors)) == (2, 1), refused.err
    assert "gone.fasta" in refused.err
    assert "--records NAME=FILES" in refused.err
    assert not (tmp_path / "out").exists()
    done = mmm(*words, "--records", f"protein={home / 'files' / 'some.fasta'}")
    assert done.status == 0, done.err
    assert set(json.loads((tmp_path / "out" / "summary.json").read_text())["grown"]["old"]) == set(MODALITIES)


# -- what is refused -----------------------------------------------------------------------------------------------------------


def refused(home: Path, tmp_path: Path, *words: str, source: Path | None = None) -> str:
    done = mmm("grow", source or home / "out", *words, "--run_dir", tmp_path / "refused")
    assert (done.status, len(done.errors)) == (2, 1), done.err
    assert not (tmp_path / "refused" / "step0").exists()
    assert not (tmp_path / "refused" / "checkpoints").exists()
    return done.errors[0]


def changed(home: Path, tmp_path: Path, **keys: Any) -> str:
    """``--add`` of the plugin's recipe with other values under some keys."""
    return f"beads={save(tmp_path / 'changed.yaml', described(home) | keys)}"


def test_a_name_that_is_taken(home, tmp_path):
    text = refused(home, tmp_path, "--add", f"text={home / 'beads.yaml'}")
    assert "has a modality of that name already; it has text, image, audio, protein" in text


def test_a_recipe_without_the_modality(home, tmp_path):
    text = refused(home, tmp_path, "--add", f"bead={home / 'beads.yaml'}")
    assert "beads.yaml: describes no modality 'bead' in model.modalities. Did you mean 'beads'?" in text


def test_a_folder_that_holds_a_run(home, grown):
    folder, _ = grown
    before = (folder / "summary.json").read_bytes()
    done = mmm("grow", home / "out", "--add", f"beads={home / 'beads.yaml'}", "--run_dir", folder)
    assert (done.status, len(done.errors)) == (2, 1)
    assert "holds a run already" in done.err
    assert (folder / "summary.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--add", "beads"], "--add NAME=recipe.yaml"),
        (["--add", "BEADS", "--add", "BEADS"], "'beads' is given twice"),
        (["--add", "BEADS", "--body", "0"], "give 'frozen', or a factor"),
        (["--add", "BEADS", "--body", "slow"], "give 'frozen', or a factor"),
        (["--add", "BEADS", "--records", "protien=x.fasta"], "Did you mean 'protein'?"),
        (["--add", "BEADS", "--adapter", "lora"], "--body says what becomes of the rest"),
        (["--add", "BEADS", "--model.encoder.init_args.depth", "3"], "absent there"),
        (["--add", "BEADS", "--model.modalities.beeds.class_path", "Beads"], "this run has the modality 'beeds'"),
        (["--add", "BEADS", "--model.modalities.text.init_args.vocabulary", "280"], "make the modality anew"),
        (["--add", "BEADS", "--trainer.max_steps", "0"], "at least 1"),
        (["--add", "beads=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_words_that_cannot_be(home, tmp_path, words, told):
    assert told in refused(home, tmp_path, *(w.replace("BEADS", f"beads={home / 'beads.yaml'}") for w in words))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("plugins", ["mmm-nothere"], "pip install mmm-nothere"),
        ("init_from", "runs/x", "init_from cannot stand in the recipe of what is added"),
        ("adapter", "lora", "adapter cannot stand in the recipe of what is added"),
        ("data", {}, "has no data of 'beads'; give --data.files.beads FILES"),
        ("model", {"modalities": {"beads": "Beads"}}, "model.objective is missing"),
    ],
)
def test_recipes_that_cannot_be(home, tmp_path, key, value, told):
    assert told in refused(home, tmp_path, "--add", changed(home, tmp_path, **{key: value}))


def test_another_corruption(home, tmp_path):
    recipe = described(home, corruption="Drop")
    text = refused(home, tmp_path, "--add", f"beads={save(tmp_path / 'drop.yaml', recipe)}")
    assert "model.objective.init_args.corruption is 'Drop' for 'beads', and 'MaskVector' in the model that grows" in text


def test_outputs_that_would_change(home, tmp_path):
    """A decoder counts the coordinates of all modalities: the positions of proteins are no longer what they were."""
    recipe = values({"protein": str(home / "files" / "some.fasta")}, 1)
    recipe["model"]["decoder"] = {"class_path": "TransformerDecoder", "init_args": {"width": 16, "depth": 1, "heads": 2}}
    run(save(tmp_path / "one.yaml", recipe), run_dir=str(tmp_path / "one"))
    flat = described(home)
    flat["model"]["modalities"] = {"beads": {"class_path": "Beads", "init_args": {"coordinates": 2}}}
    text = refused(home, tmp_path, "--add", f"beads={save(tmp_path / 'flat.yaml', flat)}", source=tmp_path / "one")
    assert "the outputs of 'protein' are no longer those of" in text
    assert "differs by" in text


# -- objectives joined ---------------------------------------------------------------------------------------------------------


def test_what_is_said_of_all_stays_where_it_is_the_same(home, tmp_path):
    run_ = compose(str(home / "out"), [changed(home, tmp_path)]).values["model"]["objective"]["init_args"]
    assert isinstance(run_["masking"], dict)
    uniform = described(home, masking={"class_path": "Uniform", "init_args": {"rate": 0.3}})
    same_masking = compose(str(home / "out"), [f"beads={save(tmp_path / 'same.yaml', uniform)}"])
    assert same_masking.values["model"]["objective"]["init_args"]["masking"]["class_path"] == "Uniform"


def test_other_objectives_do_not_join():
    masked = {"class_path": "MaskedModeling", "init_args": {}}
    task = {"class_path": "Classify", "init_args": {}}
    with pytest.raises(
        BadRecipe, match=r"model\.objective is 'MaskedModeling' for 'b', and 'Classify' in the model that grows"
    ):
        join(task, masked, ["a"], "b", "here")
    silent = {"class_path": "NoObjective", "init_args": {"targets": {"a": "ForeignCodes"}}}
    with pytest.raises(BadRecipe, match="has no place for that of a, whose targets are not here"):
        join(silent, masked, ["a"], "b", "here")
