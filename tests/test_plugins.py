"""The index: what ships, what other packages add, and what is nobody's to name."""

import shutil
import sys
from pathlib import Path

import pytest
from installed import forget
from tiny import mmm, save, values, write

import mmm as mmm_package
from mmm import plugins
from mmm.catalogue import describe
from mmm.core.errors import BadRecipe
from mmm.yaml import load

TOY = '''\
"""A package with a modality and a masking of its own."""

import pathlib

from mmm.core.masking import Masking
from mmm.modalities.protein import Protein

pathlib.Path(__file__).with_name("imported").write_text("yes")


class Rings(Protein):
    """Proteins, told as rings."""


class FromTheEnd(Masking):
    """Hides the last tokens of a segment.

    Args:
        rate: as ever. offset: added to every rank.
    """

    def __init__(self, rate: float = 0.15, offset: int = 0):
        super().__init__(rate)
        self.offset = offset

    def rank(self, tokens, progress, draw):
        return self.offset - tokens.layout.place_T


class _Private(Masking):
    """Nobody's business."""


class NoRole:
    """Fills no role."""
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a package that another distribution would have installed."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))

    def make(distribution: str, source: str = TOY, name: str = "") -> Path:
        name = name or distribution.replace("-", "_")
        folder, info = site / name, site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir(parents=True)
        info.mkdir()
        (folder / "__init__.py").write_text('"""A toy."""\n')
        (folder / "parts.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mmm.plugins]\n{distribution} = {name}\n")
        forget()
        return folder

    yield make
    forget()
    for module in [m for m in sys.modules if m.startswith("mmm_toy")]:
        del sys.modules[module]


# -- what ships ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role", "module"),
    [
        ("Text", "Modality", "mmm.modalities.text"),
        ("Audio", "Modality", "mmm.modalities.audio"),
        ("Uniform", "Masking", "mmm.masking.uniform"),
        ("Drawn", "Rate", "mmm.masking.rates"),
        ("MaskVector", "Corruption", "mmm.corruptions.mask_vector"),
        ("TokenIds", "Target", "mmm.targets.token_ids"),
        ("MFCC", "Features", "mmm.targets.acoustic_units"),
        ("LayerFeatures", "Features", "mmm.interop.layer_features"),
        ("MaskedModeling", "Objective", "mmm.objectives.masked_modeling"),
        ("Transformer", "Encoder", "mmm.encoders.transformer"),
        ("Readout", "Decoder", "mmm.decoders.readout"),
    ],
)
def test_what_ships_is_found(name, role, module):
    entry = plugins.index()[name]
    assert (entry.role, entry.module, entry.distribution) == (role, module, "mmm-pretrain")
    assert entry.doc.endswith((".", ",", ":")) or entry.doc
    assert entry.load().__name__ == name


def test_private_files_and_classes_are_not_listed():
    for name, entry in plugins.index().items():
        assert not name.startswith("_")
        assert not entry.module.rpartition(".")[2].startswith("_")
    assert "IdModality" not in plugins.index(), "it lends its role to Text and Protein, and has no name of its own"


def test_what_fills_a_role_can_be_made():
    """Abstract classes and helpers are no choice."""
    import inspect

    for entry in plugins.index().values():
        assert not inspect.isabstract(entry.load()), entry


# -- what is asked for ---------------------------------------------------------------------------------------------------------


def test_a_class_of_another_role_is_answered_with_the_choices():
    assert plugins.find("Span", "Masking", "here").name == "Span"
    with pytest.raises(BadRecipe, match=r"here: Span is a Masking, but a Encoder is needed here\. .*Choices: .*Transformer"):
        plugins.find("Span", "Encoder", "here")


@pytest.mark.parametrize("name", ["Spam", "", "Masking", "Modality", "_Units", "mmm.masking.span.Spam", "other.Span", "Tokens"])
def test_what_is_not_there_is_answered_with_the_choices(name):
    with pytest.raises(BadRecipe, match=rf"here: no class '{name}'.*Choices: .*Span.*needs that package"):
        plugins.find(name, "Masking", "here")


def test_the_nearest_is_proposed():
    with pytest.raises(BadRecipe, match=r"Did you mean 'Span'\?"):
        plugins.find("Spam", "Masking", "here")
    with pytest.raises(BadRecipe, match=r"Did you mean 'Uniform'\?"):
        plugins.find("uniform", "Masking", "here")


# -- other packages ------------------------------------------------------------------------------------------------------------


def test_classes_of_another_package_are_found_without_importing_it(package):
    folder = package("mmm-toy")
    entry = plugins.index()["FromTheEnd"]
    assert (entry.role, entry.module, entry.distribution) == ("Masking", "mmm_toy.parts", "mmm-toy")
    assert entry.doc == "Hides the last tokens of a segment."
    assert plugins.index()["Rings"].role == "Modality", "by what it descends from"
    assert "FromTheEnd" in plugins.of_role("Masking")
    assert not {"_Private", "NoRole"} & set(plugins.index())
    assert not (folder / "imported").exists()
    assert entry.load().__module__ == "mmm_toy.parts"
    assert (folder / "imported").exists()


def test_they_are_listed_and_shown_under_their_package(package):
    package("mmm-toy")
    listed = mmm("list").out
    assert "\nmmm-toy\n" in listed
    assert "Hides the last tokens of a segment." in listed
    shown = mmm("show", "FromTheEnd").out
    assert "FromTheEnd(rate: float = 0.15, offset: int = 0)" in shown
    assert "Masking of mmm-toy, mmm_toy.parts" in shown


def test_a_recipe_trains_with_them(package, tmp_path):
    package("mmm-toy")
    recipe = values(write(tmp_path / "files", ["protein"]), steps=1)
    recipe["plugins"] = ["mmm-toy"]
    recipe["model"]["modalities"]["protein"] = {"class_path": "Rings", "init_args": {"max_length": 24}}
    recipe["model"]["objective"]["init_args"]["masking"] = {"class_path": "FromTheEnd", "init_args": {"rate": 0.3}}
    done = mmm("run", save(tmp_path / "toy.yaml", recipe), "--run_dir", tmp_path / "out")
    assert done.status == 0, done.err
    assert (tmp_path / "out" / "report.html").exists()


def test_a_misspelt_argument_of_theirs_is_answered_too(package, tmp_path):
    package("mmm-toy")
    recipe = values({"protein": "x.fasta"})
    recipe["model"]["objective"]["init_args"]["masking"] = {"class_path": "FromTheEnd", "init_args": {"ofset": 1}}
    done = mmm("check", save(tmp_path / "toy.yaml", recipe))
    assert done.status == 2
    assert "Did you mean 'offset'?" in done.err


def test_two_packages_that_claim_one_name_are_both_named(package):
    package("mmm-toy")
    package("mmm-toybox")
    with pytest.raises(BadRecipe) as caught:
        plugins.index()
    text = str(caught.value)
    assert "mmm-toy and mmm-toybox" in text
    assert "mmm_toy.parts" in text
    assert "mmm_toybox.parts" in text
    done = mmm("list")
    assert (done.status, len(done.errors)) == (2, 1), "and the command says so in a line"


def test_a_package_cannot_take_a_name_that_ships(package):
    package("mmm-toy", TOY.replace("FromTheEnd", "Uniform"))
    with pytest.raises(BadRecipe, match="mmm-pretrain and mmm-toy"):
        plugins.index()


def test_a_package_whose_files_are_gone_does_not_stop_others(package):
    folder = package("mmm-toy")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    forget()
    assert "FromTheEnd" not in plugins.index()
    assert "Uniform" in plugins.index()


def test_a_package_with_a_broken_file_is_named_and_stops_nobody(package, tmp_path):
    folder = package("mmm-toy")
    (folder / "more.py").write_text("class Broken(:\n")
    forget()
    listed = mmm("list")
    assert listed.status == 0, listed.err
    assert listed.err.startswith("the package mmm-toy holds a file that is no Python: ")
    assert "more.py" in listed.err
    assert "FromTheEnd" in listed.out, "what stands in its other files can be used"
    assert mmm("check", save(tmp_path / "ours.yaml", values({"protein": "x.fasta"}))).status == 0
    done = mmm("doctor")
    assert done.status == 1
    assert "plugin mmm-toy: holds a file that is no Python" in done.out


def test_a_package_that_cannot_be_imported_is_named(package, tmp_path):
    package("mmm-toy", TOY.replace("import pathlib\n", "import pathlib\nimport a_library_that_is_not_there\n"))
    recipe = values({"protein": "x.fasta"})
    recipe["model"]["objective"]["init_args"]["masking"] = "FromTheEnd"
    done = mmm("check", save(tmp_path / "toy.yaml", recipe))
    assert (done.status, len(done.errors)) == (2, 1), done.err
    assert "mmm-toy" in done.err
    assert "a_library_that_is_not_there" in done.err


def test_a_plugin_that_is_not_installed(tmp_path):
    recipe = values({"protein": "x.fasta"})
    recipe["plugins"] = ["mmm-nothere"]
    done = mmm("check", save(tmp_path / "toy.yaml", recipe))
    assert done.status == 2
    assert "needs the package mmm-nothere, which is not installed: pip install mmm-nothere" in done.err


def test_the_doctor_sees_them(package, tmp_path):
    package("mmm-toy")
    package("mmm-toybroken", "", name="mmm_toybroken")
    Path(sys.path[0], "mmm_toybroken", "__init__.py").write_text("import a_library_that_is_not_there\n")
    package(
        "mmm-toyexit", "import sys\n\nfrom mmm.core.masking import Masking\n\nsys.exit(3)\n\n\nclass Exit(Masking):\n    pass\n"
    )
    done = mmm("doctor")
    assert "plugin mmm-toy: ok (mmm-toy)" in done.out
    assert "plugin mmm-toybroken: cannot be imported (ModuleNotFoundError" in done.out
    assert "plugin mmm-toyexit: cannot be imported (SystemExit(3))" in done.out
    assert done.status == 1
    assert mmm("check", save(tmp_path / "ours.yaml", values({"protein": "x.fasta"}))).status == 0, "others run"


def test_the_doctor_sees_a_clash(package):
    package("mmm-toy")
    package("mmm-toybox")
    done = mmm("doctor")
    assert done.status == 1
    assert "mmm-toy and mmm-toybox; no recipe can be read until one of them is removed" in done.out


def test_a_recipe_needs_the_packages_of_its_classes(package):
    package("mmm-toy")
    own = {"class_path": "Uniform", "init_args": {"rate": 0.1}}
    theirs = {"class_path": "mmm_toy.parts.FromTheEnd", "init_args": {}}
    assert plugins.needed({"a": [own], "b": own}) == []
    assert plugins.needed({"a": [own, {"masking": {"x": theirs}}]}) == ["mmm-toy"]
    assert plugins.require(["MMM_Toy", "mmm-pretrain"], "here") == ["MMM_Toy", "mmm-pretrain"], "as pip compares names"


# -- packages that are gone ----------------------------------------------------------------------------------------------------


def uninstall(folder: Path) -> None:
    """What pip does."""
    (info,) = folder.parent.glob(f"{folder.name}-*.dist-info")
    shutil.rmtree(folder)
    shutil.rmtree(info)
    for module in [m for m in sys.modules if m.partition(".")[0] == folder.name]:
        del sys.modules[module]
    forget()


def test_what_was_made_with_a_package_says_so_when_it_is_gone(package, tmp_path):
    folder = package("mmm-toy")
    recipe = values(write(tmp_path / "files", ["protein"]), steps=1)
    recipe["model"]["modalities"]["protein"] = {"class_path": "Rings", "init_args": {"max_length": 24}}
    silent = save(tmp_path / "silent.yaml", recipe)
    said = save(tmp_path / "said.yaml", {"plugins": ["mmm-toy"], **recipe})
    run, exported = tmp_path / "out", tmp_path / "exported"
    assert mmm("run", silent, "--run_dir", run).status == 0
    assert mmm("export", run, "--to", "safetensors", exported).status == 0
    assert load(run / "recipe.yaml")["plugins"] == ["mmm-toy"], "though the recipe did not say it"

    uninstall(folder)
    need = "needs the package mmm-toy, which is not installed: pip install mmm-toy"
    further = {**values({"protein": "x.fasta"}), "init_from": str(run)}
    words = [
        ("run", said),
        ("check", said),
        ("masks", said),
        ("check", run / "recipe.yaml"),
        ("run", run / "recipe.yaml", "--run_dir", run, "--resume"),
        ("run", save(tmp_path / "further.yaml", further), "--run_dir", tmp_path / "further"),
        ("export", run, "--to", "safetensors", tmp_path / "again"),
    ]
    for command in words:
        done = mmm(*command)
        assert (done.status, len(done.err.splitlines())) == (2, 1), (command, done.err)
        assert need in done.err, command
    for source in (run, run / "checkpoints" / "step-1.ckpt", exported):
        with pytest.raises(BadRecipe, match=need) as caught:
            mmm_package.load(source)
        assert "\n" not in str(caught.value)
        assert str(source) in str(caught.value)


def test_a_package_is_missed_before_what_it_held(package, tmp_path):
    """A recipe that begins from a model looks at its data first, and a card of the package is not there either."""
    recipe = {**values({}), "plugins": ["mmm-toy"], "init_from": str(tmp_path / "nothing")}
    recipe["data"]["cards"] = {"a-card-of-theirs": 1}
    done = mmm("check", save(tmp_path / "toy.yaml", recipe))
    assert "needs the package mmm-toy, which is not installed" in done.err


def test_a_package_that_is_declared_and_gone(package, tmp_path):
    shutil.rmtree(package("mmm-toy"))
    forget()
    recipe = {**values({"protein": "x.fasta"}), "plugins": ["mmm-toy"]}
    done = mmm("check", save(tmp_path / "toy.yaml", recipe))
    assert (done.status, len(done.errors)) == (2, 1)
    assert "needs the package mmm-toy, which is declared, but there is no package 'mmm_toy': reinstall it" in done.err
    assert mmm("check", save(tmp_path / "ours.yaml", values({"protein": "x.fasta"}))).status == 0


# -- what a page tells ---------------------------------------------------------------------------------------------------------

POSTPONED = '''\
"""A part whose annotations are strings until somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mmm.core.masking import Masking

if TYPE_CHECKING:
    from nowhere import Unknown


class Ends(Masking):
    """Hides an end.

    Args:
        rate: as ever. side: which one.
    """

    def __init__(self, rate: float = 0.15, side: Literal["left", "right"] = "left"):
        super().__init__(rate)


class Odd(Masking):
    """Has an argument of a type that only type checkers see.

    Args:
        what: it.
    """

    def __init__(self, what: Unknown | None = None):
        super().__init__(0.1)
'''


def test_types_are_told_without_quotes(package):
    package("mmm-toy", POSTPONED)
    assert describe("Ends").startswith("Ends(rate: float = 0.15, side: Literal['left', 'right'] = 'left')\n")
    assert describe("Odd").startswith("Odd(what: 'Unknown | None' = None)\n"), "what cannot be looked up stays as it is written"
    assert describe("Span").startswith("Span(rate: float | ")
    assert describe("Lion").startswith(
        "Lion(lr: float = 0.0001, weight_decay: float = 0.1, warmup: int = 0, decay: Literal['linear', "
    )
