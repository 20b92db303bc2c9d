"""Recipes: overrides, defaults, mistakes answered with the choices, and nothing imported that is not in the index."""

import copy
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tiny import mmm, save, values

from mmm import yaml
from mmm.core.errors import BadRecipe
from mmm.core.training import Training
from mmm.encoders.transformer import Transformer
from mmm.modalities.text import TextTokenizer
from mmm.overrides import parse_overrides, set_value
from mmm.recipe import build, instantiate, read, resolve

FILES = {"text": "corpus/*.txt", "protein": "own.fasta"}
ENCODER = "model.encoder.init_args"


@pytest.fixture
def base() -> dict[str, Any]:
    return copy.deepcopy(values(FILES))


@pytest.fixture
def recipe(tmp_path: Path, base: dict[str, Any]) -> str:
    return save(tmp_path / "tiny.yaml", base)


def said(recipe: str, *words: str) -> str:
    """What is said of a recipe that cannot be used."""
    with pytest.raises(BadRecipe) as caught:
        instantiate(read(recipe, words))
    text = str(caught.value)
    assert "\n" not in text
    return text


def encoder(training: Training) -> Transformer:
    """The encoder of a training that is not built yet."""
    (found,) = (p for p in training._parts if isinstance(p, Transformer))
    return found


def changed(tmp_path: Path, base: dict[str, Any], key: str, value: Any) -> str:
    *path, last = key.split(".")
    place = base
    for word in path:
        place = place[word]
    place[last] = value
    return save(tmp_path / "changed.yaml", base)


# -- overrides -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        (["--a.b", "6"], [("a.b", 6)]),
        (["--a.b=6"], [("a.b", 6)]),
        (["--a=1e-3"], [("a", 0.001)]),
        (["--a", "true"], [("a", True)]),
        (["--a", "null"], [("a", None)]),
        (["--a", ""], [("a", None)]),
        (["--a", "no"], [("a", "no")]),
        (["--a", "[1, 2]"], [("a", [1, 2])]),
        (["--a", "{b: 1, c: [x]}"], [("a", {"b": 1, "c": ["x"]})]),
        (["--a", "-1"], [("a", -1)]),
        (["--a", "x=y"], [("a", "x=y")]),
        (["--a=x=y"], [("a", "x=y")]),
        (["--a", "*.txt"], [("a", "*.txt")]),
        (["--a", "corpus/**/*.txt"], [("a", "corpus/**/*.txt")]),
        (["--a", "&x"], [("a", "&x")]),
        (["--a", "!x y"], [("a", "!x y")]),
        (["--a", "x: y: z"], [("a", "x: y: z")]),
        (["--a", "{b"], [("a", "{b")]),
        (["--a", "corpus #1"], [("a", "corpus #1")]),
        (["--a", "5 #1"], [("a", "5 #1")]),
        (["--a", "#1"], [("a", "#1")]),
        (["--a", "'5'"], [("a", "5")]),
        (["--a", "x\ny: 2"], [("a", "x\ny: 2")]),
        (["--a", "5\ny: 2"], [("a", "5\ny: 2")]),
        (["--data.files.text", "2024"], [("data.files.text", "2024")]),
        (["--data.joint", "010"], [("data.joint", "010")]),
        (["--data.joint", "null"], [("data.joint", None)]),
        (["--a", "1", "--b", "2", "--a", "3"], [("a", 1), ("b", 2), ("a", 3)]),
    ],
)
def test_overrides_are_yaml_and_else_plain_text(words, pairs):
    assert parse_overrides(words) == pairs


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["depth", "6"], "'depth' is not an option"),
        (["-d", "6"], "'-d' is not an option"),
        (["--"], "'--' is not an option"),
        (["--a.b"], "--a.b: needs a value"),
        (["--a.b", "--c"], "--a.b: needs a value"),
    ],
)
def test_words_that_are_no_overrides(words, text):
    with pytest.raises(BadRecipe, match=text):
        parse_overrides(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max_steps", "5"], "no option --max_steps; did you mean --trainer.max_steps?"),
        (["--lr=1e-3"], "no option --lr; did you mean --model.optimizer.lr?"),
        (["--seed", "1", "--rundir", "x"], "no option --rundir; did you mean --run_dir?"),
        (["--encoder.depth", "4"], "no option --encoder; did you mean --model.encoder?"),
        (["--data.files", "my x.fasta"], "of which modality? Write --data.files.NAME 'my x.fasta'"),
        (["--nonsense", "4"], "no key 'nonsense'"),
    ],
)
def test_an_option_is_told_its_whole_key(tmp_path, words, said):
    recipe = save(tmp_path / "tiny.yaml", values({"protein": "x"}))
    done = mmm("run", recipe, "--run_dir", tmp_path / "out", *words)
    assert (done.status, len(done.errors)) == (2, 1)
    assert said in done.err


def test_overrides_reach_every_depth(recipe):
    words = [
        f"--{ENCODER}.depth",
        "3",
        "--data.files.text",
        "corpus/**/*.txt",
        "--model.optimizer.betas=[0.5, 0.6]",
        "--seed=7",
    ]
    resolved = read(recipe, words).values
    assert resolved["model"]["encoder"]["init_args"]["depth"] == 3
    assert resolved["data"]["files"] == FILES | {"text": "corpus/**/*.txt"}
    assert resolved["model"]["optimizer"]["init_args"]["betas"] == [0.5, 0.6]
    assert resolved["seed"] == 7
    assert resolved["model"]["encoder"]["init_args"]["width"] == 16, "the recipe's other values stay"


def test_the_last_of_two_overrides_counts(recipe):
    resolved = read(recipe, [f"--{ENCODER}.depth=3", f"--{ENCODER}.depth=4"]).values
    assert resolved["model"]["encoder"]["init_args"]["depth"] == 4


def test_another_class_drops_the_arguments_of_the_one_before():
    place = {"masking": {"class_path": "Span", "init_args": {"rate": 0.3, "mean": 4}}}
    set_value(place, "masking.class_path", "Span")
    assert place["masking"]["init_args"] == {"rate": 0.3, "mean": 4}, "the same class keeps them"
    set_value(place, "masking.class_path", "Uniform")
    assert place["masking"] == {"class_path": "Uniform"}


def test_arguments_of_a_class_named_by_its_bare_word():
    place = {"corruption": "MaskVector"}
    set_value(place, "corruption.init_args.random", 0.1)
    assert place["corruption"] == {"class_path": "MaskVector", "init_args": {"random": 0.1}}


def test_init_args_may_be_left_out():
    place = {"optimizer": {"class_path": "Lion"}, "masking": {"text": "Span"}}
    for key, value in (("optimizer.lr", 0.1), ("optimizer.betas", [0, 1]), ("masking.text.rate.class_path", "Drawn")):
        set_value(place, key, value)
    assert place["optimizer"] == {"class_path": "Lion", "init_args": {"lr": 0.1, "betas": [0, 1]}}
    assert place["masking"]["text"] == {"class_path": "Span", "init_args": {"rate": {"class_path": "Drawn"}}}


def test_a_whole_part_can_be_replaced(recipe):
    path = "model.objective.init_args.masking"
    resolved = read(recipe, [f"--{path}.class_path=Span", f"--{path}.init_args.mean=4"]).values
    masking = resolved["model"]["objective"]["init_args"]["masking"]
    assert masking["class_path"] == "Span"
    assert masking["init_args"]["mean"] == 4
    resolved = read(recipe, [f"--{path}", "{text: {class_path: Span}, protein: Uniform}"]).values
    masking = resolved["model"]["objective"]["init_args"]["masking"]
    assert [m["class_path"] for m in masking.values()] == ["Span", "Uniform"]


# -- defaults ------------------------------------------------------------------------------------------------------------------


def test_defaults_are_filled_in(recipe):
    resolved = read(recipe).values
    assert list(resolved) == ["plugins", "seed", "model", "data", "trainer"]
    assert resolved["model"]["encoder"]["init_args"]["order"] == "pre"
    assert resolved["model"]["decoder"] == {"class_path": "Readout", "init_args": {}}
    assert resolved["model"]["modalities"]["text"]["init_args"]["algorithm"] == "bpe"
    assert resolved["data"]["workers"] == 0


def test_a_printed_recipe_resolves_to_itself(recipe, tmp_path):
    first = mmm("run", recipe, f"--{ENCODER}.depth=3", "--data.files.text", "*.txt", "--print_config")
    assert first.status == 0
    (tmp_path / "printed.yaml").write_text(first.out)
    assert mmm("run", tmp_path / "printed.yaml", "--print_config").out == first.out
    before, after = read(recipe, [f"--{ENCODER}.depth=3", "--data.files.text", "*.txt"]), read(tmp_path / "printed.yaml")
    assert before.values == after.values == yaml.loads(first.out, "printed")


def test_printing_needs_no_data_and_leaves_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert mmm("run", recipe, "--print_config").status == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_the_seed_makes_the_weights(recipe):
    def weights(*words: str) -> dict[str, torch.Tensor]:
        cli = build(read(recipe, words), {"logger": False, "enable_checkpointing": False})
        return encoder(cli.model).state_dict()

    first, again, other = weights(), weights(), weights("--seed=1")
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert any(not torch.equal(first[n], other[n]) for n in first)


# -- mistakes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("modle", {}, ["no key 'modle'", "Did you mean 'model'?", "trainer"]),
        ("model.encodr", {}, ["no key 'model.encodr'", "Did you mean 'encoder'?"]),
        ("model.encoder.class_path", "Transfromer", ["model.encoder", "Did you mean 'Transformer'?", "package"]),
        ("model.encoder.init_arg", {}, ["no key 'model.encoder.init_arg'", "Did you mean 'init_args'?"]),
        (f"{ENCODER}.deph", 3, [f"no key '{ENCODER}.deph'", "Did you mean 'depth'?", "heads", "width"]),
        ("model.modalities.text.class_path", "Txt", ["model.modalities.text", "Did you mean 'Text'?", "Image"]),
        ("model.modalities.text.init_args.vocab", 3, ["Did you mean 'vocabulary'?"]),
        ("model.objective.init_args.masking.init_args.rat", 0.1, ["masking.init_args.rat'", "Did you mean 'rate'?"]),
        ("model.objective.init_args.targets.text", "TokenId", ["targets.text", "Did you mean 'TokenIds'?", "Pixels"]),
        ("model.optimizer", {"learning_rate": 1}, ["no key 'model.optimizer.init_args.learning_rate'", "lr", "betas"]),
        ("data.file", {}, ["no key 'data.file'", "Did you mean 'files'?"]),
        ("trainer.max_step", 5, ["no key 'trainer.max_step'", "Did you mean 'max_steps'?"]),
        ("model.encoder.class_path", "Uniform", ["Uniform is a Masking, but a Encoder is needed here", "Transformer"]),
        ("model.seed", 3, ["no key 'model.seed'"]),
    ],
)
def test_a_misspelt_name_is_answered_with_the_choices(tmp_path, base, key, value, parts):
    path = changed(tmp_path, base, key, value)
    text = said(path)
    assert text.startswith(f"{path}: ")
    for part in parts:
        assert part in text


def test_a_modality_that_the_model_lacks_is_named(tmp_path, base):
    base["model"]["objective"]["init_args"]["targets"]["txet"] = "TokenIds"
    path = save(tmp_path / "changed.yaml", base)
    done = mmm("check", path)
    assert done.status == 2
    assert len(done.errors) == 1
    assert "no modality 'txet'. Did you mean 'text'?" in done.err


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        (f"--{ENCODER}.depth=six", ["depth", "six"]),
        (f"--{ENCODER}.depth=1.5", ["depth", "1.5"]),
        (f"--{ENCODER}.norm=batch", ["norm", "batch", "layer"]),
        ("--model.optimizer.lr=fast", ["lr", "fast"]),
        ("--model.objective.init_args.masking.init_args.rate=[1]", ["rate", "[1]"]),
        ("--model.modality_vector=perhaps", ["modality_vector", "perhaps"]),
        ("--model.encoder=null", ["encoder"]),
        ("--model.modalities=[text]", ["modalities"]),
        ("--model.modalities={}", ["at least one modality"]),
    ],
)
def test_a_wrong_type_is_said_in_one_line(recipe, word, parts):
    text = said(recipe, word)
    assert all(part in text for part in parts)


@pytest.mark.parametrize("name", ["train", "type", "items"])
def test_a_modality_is_not_called_like_what_torch_has(recipe, name):
    """It is said before anything is read or fitted."""
    Path(recipe).write_text(Path(recipe).read_text().replace("text:", f"{name}:"))
    assert f"a modality cannot be called {name!r}: torch's modules have an attribute of that name" in said(recipe)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        (f"--{ENCODER}.heads=3", ["width 16, heads 3"]),
        (f"--{ENCODER}.depth=0", ["depth 0"]),
        ("--model.modalities.text.init_args.vocabulary=5", ["vocabulary=5"]),
    ],
)
def test_what_a_constructor_refuses_is_said_in_one_line(recipe, word, parts):
    text = said(recipe, word)
    assert all(part in text for part in parts)
    done = mmm("check", recipe, word)
    assert (done.status, len(done.errors)) == (2, 1)
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("--trainer.strategy=telepathy", "telepathy"),
        ("--trainer.accelerator=abacus", "abacus"),
        ("--trainer.accelerator=hpu", "hpu"),
        ("--trainer.precision=7", "7"),
        ("--trainer.profiler=crystal", "profiler"),
        ("--trainer.devices=0", "devices"),
        ("--trainer.limit_val_batches=2.5", "limit_val_batches"),
    ],
)
def test_what_the_trainer_refuses_is_said_in_one_line(recipe, word, part):
    done = mmm("check", recipe, word)
    assert (done.status, len(done.errors)) == (2, 1), done.err
    assert part in done.err


@pytest.mark.parametrize("key", ["workers", "tokens_per_batch", "validation", "cards", "files"])
def test_a_wrong_type_of_the_data_is_said_in_one_line(recipe, key):
    done = mmm("check", recipe, f"--data.{key}=many")
    assert (done.status, len(done.errors)) == (2, 1)
    assert key in done.err
    assert "many" in done.err


@pytest.mark.parametrize(
    ("key", "missing"),
    [
        ("model", "model.modalities is missing"),
        ("model.objective", "model.objective is missing"),
        ("model.objective.init_args.corruption", "model.objective.init_args.corruption is missing; MaskedModeling needs it"),
    ],
)
def test_a_missing_argument_is_named(tmp_path, base, key, missing):
    *path, last = key.split(".")
    place = base
    for word in path:
        place = place[word]
    del place[last]
    assert missing in said(save(tmp_path / "changed.yaml", base))


@pytest.mark.parametrize("value", ["text", ["text"], 3])
@pytest.mark.parametrize("key", ["model", "data", "trainer"])
def test_a_part_that_is_no_mapping_is_named(tmp_path, base, key, value):
    assert key in said(changed(tmp_path, base, key, value))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["expected `key: value` lines, found nothing"]),
        ("- a\n- b\n", ["found a list"]),
        ("seed: 0\nseed: 1\n", ["line 2", "'seed'"]),
        ("model: {a: 1\n", ["line "]),
        ("model: &x {a: 1}\n", ["line 1", "anchors"]),
        ("model: !!python/object/apply:os.system [ls]\n", ["line 1", "tag"]),
    ],
)
def test_a_file_that_is_no_recipe_is_named_with_its_line(tmp_path, text, parts):
    (tmp_path / "odd.yaml").write_text(text)
    message = said(str(tmp_path / "odd.yaml"))
    assert "odd.yaml" in message
    assert all(part in message for part in parts)


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "none.yaml: cannot be read: No such file" in said(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    "key", ["callbacks", "logger", "default_root_dir", "plugins", "enable_checkpointing", "use_distributed_sampler"]
)
def test_what_the_run_sets_itself_cannot_stand_in_a_recipe(recipe, key):
    assert f"trainer.{key} is set by the run itself" in said(recipe, f"--trainer.{key}=x")


@pytest.mark.parametrize("steps", ["0", "-1", "many", "1.5", "null", "true"])
def test_a_run_needs_steps(recipe, tmp_path, steps):
    done = mmm("run", recipe, "--run_dir", tmp_path / "out", f"--trainer.max_steps={steps}")
    assert (done.status, len(done.errors)) == (2, 1)
    assert "max_steps" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", ["one", "1.5", "null", "[1]"])
def test_a_seed_is_a_whole_number(recipe, seed):
    done = mmm("check", recipe, f"--seed={seed}")
    assert (done.status, len(done.errors)) == (2, 1)
    assert "seed" in done.err


@pytest.mark.parametrize("plugins", ["mmm-nothere", ["mmm-nothere"]])
def test_a_missing_plugin_says_how_to_get_it(tmp_path, base, plugins):
    base["plugins"] = plugins
    text = said(save(tmp_path / "changed.yaml", base))
    if isinstance(plugins, list):
        assert "needs the package mmm-nothere, which is not installed: pip install mmm-nothere" in text
    else:
        assert "plugins" in text, "a list is needed, and that is what is said"


# -- nothing but what the index holds is imported ------------------------------------------------------------------------------

CANARY = """\
import pathlib
pathlib.Path(__file__).with_name("sung").write_text("this file was imported")
from mmm.core.network import Encoder
class Canary(Encoder):
    def __init__(self, depth: int = 1): pathlib.Path(__file__).with_name("sung").write_text("made")
def canary(depth: int = 1): pathlib.Path(__file__).with_name("sung").write_text("called")
"""


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder one stands in, with a module that writes a file when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(TextTokenizer, "_load_pretrained", _offline)
    (tmp_path / "canary_module.py").write_text(CANARY)
    return tmp_path


def _offline(tokenizer: TextTokenizer, name: str) -> None:
    raise BadRecipe(f"no tokenizer could be loaded from {name!r}")


FORMS = (
    "{class_path: canary_module.Canary, init_args: {depth: 1}}",
    "{class_path: os.system}",
    "[{class_path: canary_module.Canary}]",
    "{x: {class_path: canary_module.Canary}}",
    "canary_module.Canary",
    "[canary_module.Canary]",
    "{x: canary_module.Canary}",
)
"""A class, wherever one may be written; the last three are no class to us, but to jsonargparse in some places."""


def places() -> list[str]:
    """Every place of a recipe where a value can stand, those of defaults and of the trainer among them."""

    def walk(value: Any, path: str) -> Iterator[str]:
        yield path
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(inner, f"{path}.{key}")

    trainer = (f".trainer.{name}" for name in inspect.signature(Trainer).parameters)
    resolved = walk(resolve(values(FILES), "tiny"), "")
    return [p[1:] for p in dict.fromkeys([*resolved, *trainer, ".model.optimizer.lr", f".{ENCODER}.local.reach"]) if p]


@pytest.mark.parametrize("place", places())
def test_nothing_outside_the_index_is_imported(canary, recipe, place):
    """Wherever it stands and however it is written: named as a class, as a bare dotted word, in a list, inside a mapping."""
    for form in FORMS:
        sys.modules.pop("canary_module", None)
        done = mmm("check", recipe, "--" + place, form)
        assert "Traceback" not in done.err
        assert "canary_module" not in sys.modules, f"--{place} {form} imported it"
        assert not (canary / "sung").exists(), f"--{place} {form} ran it"
        refused = (done.status, len(done.errors)) == (2, 1)
        assert refused or "class_path" not in form, f"--{place} {form} was taken for a value"


def test_a_checkpoint_can_name_nothing_else_either(canary, recipe, tmp_path):
    """The recipe inside a checkpoint is read like any other."""
    from mmm.loading import load

    text = yaml.dump(read(recipe).values | {"plugins": []})
    for key in ("class_path: Transformer", "local: null"):
        old, new = key, f"{key.partition(':')[0]}: canary_module.Canary"
        assert old in text
        torch.save({"mmm_recipe": text.replace(old, new), "mmm_assets": {}, "state_dict": {}}, tmp_path / "step-1.ckpt")
        with pytest.raises(BadRecipe):
            load(tmp_path / "step-1.ckpt")
        assert not (canary / "sung").exists()
        assert "canary_module" not in sys.modules


@pytest.mark.parametrize(
    "path",
    [
        "mmm.cli.main",
        "mmm.core.training.Training",
        "mmm.checkpoint.AtomicCheckpointIO",
        "mmm.encoders.transformer.Local",
        "mmm.masking.uniform.Transformer",
        "mmm.encoders.other.Transformer",
    ],
)
def test_a_dotted_path_inside_the_package_must_be_in_the_index(recipe, path):
    assert f"no class {path!r}" in said(recipe, f"--model.encoder.class_path={path}")


def test_the_full_name_of_a_class_in_the_index_is_that_class(recipe):
    resolved = read(recipe, ["--model.encoder", "{class_path: mmm.encoders.transformer.Transformer}"]).values
    assert resolved["model"]["encoder"]["class_path"] == "Transformer"


def test_a_class_of_a_file_that_lies_about(canary, recipe):
    """Standing in a folder with a module of a class's name changes nothing."""
    (canary / "transformer.py").write_text(CANARY)
    (canary / "mmm_encoders").mkdir()
    assert read(recipe).values["model"]["encoder"]["class_path"] == "Transformer"
    assert not (canary / "sung").exists()


def test_environment_does_not_speak_into_a_recipe(recipe, monkeypatch):
    """jsonargparse can read values from the environment; a run shall not."""
    for prefix in ("", "PL_", "MMM_"):
        monkeypatch.setenv(f"{prefix}MODEL__ENCODER__INIT_ARGS__DEPTH", "5")
    assert encoder(instantiate(read(recipe))).depth == 1
    cli = build(read(recipe), {"logger": False, "enable_checkpointing": False})
    assert encoder(cli.model).depth == 1
    assert "PL_GLOBAL_SEED" not in os.environ
