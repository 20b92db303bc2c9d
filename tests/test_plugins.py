"""The index: what ships, what other packages add, and what is nobody's to name."""

import importlib
import sys
from pathlib import Path

import pytest
from tiny import mmm, save, values, write

from mmm import plugins
from mmm.core.errors import BadRecipe

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
        importlib.invalidate_caches()
        plugins.index.cache_clear()
        return folder

    yield make
    plugins.index.cache_clear()
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
    plugins.index.cache_clear()
    importlib.invalidate_caches()
    assert "FromTheEnd" not in plugins.index()
    assert "Uniform" in plugins.index()


def test_a_package_with_a_broken_file_is_named(package):
    """A file that is no Python is the package's fault, not the recipe's: one line says whose."""
    package("mmm-toy", "class Broken(:\n")
    done = mmm("list")
    assert (done.status, len(done.errors)) == (2, 1), done.err
    assert "mmm-toy" in done.err
    assert "parts.py" in done.err


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


def test_the_doctor_sees_them(package):
    package("mmm-toy")
    package("mmm-toybroken", "", name="mmm_toybroken")
    Path(sys.path[0], "mmm_toybroken", "__init__.py").write_text("import a_library_that_is_not_there\n")
    done = mmm("doctor")
    assert "plugin mmm-toy: ok (mmm-toy)" in done.out
    assert "plugin mmm-toybroken: cannot be imported" in done.out
    assert done.status == 1
