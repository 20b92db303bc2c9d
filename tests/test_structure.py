"""The house rules, read from the source: who imports whom, no global randomness, nothing unpickled, one concept a file.

``python tests/test_structure.py`` writes the golden list of public names anew.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from mmm.plugins import index
from mmm.yaml import load as load_yaml

ROOT = Path(__file__).parent.parent
MMM = ROOT / "mmm"
GOLDEN = Path(__file__).parent / "golden_names.txt"
FILES = sorted(MMM.rglob("*.py"))

FAMILIES = {
    "modalities": "mmm.core.modality.Modality",
    "masking": "mmm.core.masking.Masking",
    "corruptions": "mmm.core.corruption.Corruption",
    "targets": "mmm.core.target.Target",
    "objectives": "mmm.core.objective.Objective",
    "encoders": "mmm.core.network.Encoder",
    "decoders": "mmm.core.network.Decoder",
    "optimizers": "mmm.core.optimizer.Optimizer",
    "adapters": "mmm.core.adapter.Adapter",
    "samplers": "mmm.core.sampler.Sampler",
}
OTHER_BASE = {"masking/rates.py": "mmm.core.rate.Rate"}
SEVERAL = {"masking/rates.py"}
WITHOUT_PAPER = {"Readout", "NoObjective"}  # the identity; nothing is learned
LARGEST = 16_000  # bytes of a file

MODALITIES = r"\b(text|image|audio|protein)s?\b"
METHODS = r"(?<![a-z])(bert|mae|simmim|hubert|esm|wav2vec|data2vec|beit|electra|maskgit|modernbert|spanbert|jepa|dino)(?![a-z])"


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(MMM))


def package_of(path: Path) -> str:
    """The first folder under mmm, or "" for a file that stands there itself."""
    parts = path.relative_to(MMM).parts
    return parts[0] if len(parts) > 1 else ""


def imports(path: Path) -> Iterator[tuple[str, bool, int]]:
    """(absolute module, whether it is imported with the file, line) of every import, those inside functions too."""
    package = ("mmm", *path.relative_to(MMM).parts[:-1])
    late = {n for f in ast.walk(tree(path)) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(f)}
    late |= {
        n for i in ast.walk(tree(path)) if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.unparse(i.test) for n in ast.walk(i)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node not in late, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                yield f"{module}.{alias.name}", node not in late, node.lineno


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a chain of attributes, "" of anything else."""
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else f"?.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def docstrings(module: ast.Module) -> set[ast.AST]:
    """Strings that stand alone: docstrings, and those under attributes."""
    return {n.value for n in ast.walk(module) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


def faults(found: list[str], rule: str) -> None:
    assert not found, f"{rule}\n  " + "\n  ".join(found)


ALLOWED = {
    "core": ("mmm.core", "torch", "einops", "lightning"),
    "nn": ("mmm.nn", "mmm.core.layout", "mmm.core.rule", "torch", "torchaudio", "einops"),
    "data": ("mmm.data", "mmm.core", "mmm.yaml"),
    **{family: (f"mmm.{family}", "mmm.core", "mmm.nn") for family in FAMILIES},
}
NARROW = ("core", "nn")  # these two may import no other library either


def within(module: str, allowed: tuple[str, ...]) -> bool:
    return any(module == a or module.startswith(a + ".") for a in allowed)


def test_import_direction():
    bad = []
    for path in FILES:
        package = package_of(path)
        for module, _, line in imports(path):
            root = module.split(".")[0]
            where = f"{name_of(path)}:{line} imports {module}"
            if root in ("recipes", "tests", "tools"):
                bad.append(where)
            if root == "yaml" and path != MMM / "yaml.py":
                bad.append(f"{where}: use mmm.yaml")
            if package in ALLOWED and module != "mmm" and not within(module, ALLOWED[package]):
                ours = root == "mmm"
                library = package in NARROW and root not in sys.stdlib_module_names
                if ours or library:
                    bad.append(where)
    faults(bad, "core -> torch; nn -> torch, core.layout, core.rule; families -> core, nn, never one another; data -> core:")


def test_heavy_libraries_are_imported_where_they_are_used():
    heavy = ("transformers", "timm", "esm", "sklearn", "soundfile", "tokenizers", "tensorboard", "torchvision", "PIL.Image")
    bad = [
        f"{name_of(path)}:{line} imports {module}"
        for path in FILES
        if package_of(path) in ALLOWED
        for module, early, line in imports(path)
        if early and within(module, heavy)
    ]
    faults(bad, "Import these inside the function that needs them:")


def test_the_core_names_no_modality_and_no_method():
    bad = []
    for path in FILES:
        if package_of(path) != "core":
            continue
        spoken = docstrings(tree(path))
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in spoken:
                found = re.search(MODALITIES, node.value.lower()) or re.search(METHODS, node.value.lower())
                if found:
                    bad.append(f"{name_of(path)}:{node.lineno} says {found[0]!r}")
            names = [
                getattr(node, "id", None),
                getattr(node, "attr", None),
                getattr(node, "arg", None),
                getattr(node, "name", None),
            ]
            for name in filter(lambda n: isinstance(n, str), names):
                if re.search(METHODS, name.lower()):
                    bad.append(f"{name_of(path)}:{node.lineno} names {name!r}")
    faults(bad, "The core knows no modality and no method; a role of the design is missing:")


# -- plugins: mmm/ does not know them, and they know its public names alone ----------------------------------------------------


PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def sources_of(plugin: Path) -> list[Path]:
    """The Python files of its package, without those that came with an installation or test it."""
    packages = [p.parent for p in plugin.glob("*/__init__.py") if p.parent.name != "tests"]
    return [file for package in packages for file in sorted(package.rglob("*.py"))]


def words_of(plugin: Path) -> tuple[set[str], set[str]]:
    """(names of its distribution, its packages and its modalities; those of its classes that a recipe can name)."""
    (distribution,) = re.findall(r'^name = "(.+)"', (plugin / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    names = {distribution, distribution.removeprefix("mmm-"), *(f.parent.name for f in plugin.glob("*/__init__.py"))}
    for recipe in plugin.rglob("*.yaml"):
        described = (load_yaml(recipe).get("model") or {}).get("modalities") or {}
        names |= {name for name in described if not re.fullmatch(MODALITIES, name)}
    ours = index()
    roles = {entry.role for entry in ours.values()} | {name for name, e in ours.items() if e.module.startswith("mmm.")}
    classes = {
        node.name
        for file in sources_of(plugin)
        for node in tree(file).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and {ast.unparse(b) for b in node.bases} & roles
    }
    return names - {"tests"}, classes


def pattern_of(plugin: Path) -> re.Pattern[str]:
    """Finds a mention: its names in any case, their words joined by anything; its classes as they are written."""
    names, classes = words_of(plugin)
    either = "|".join("[-_ ]?".join(map(re.escape, re.split(r"[-_ ]", name))) for name in sorted(names))
    return re.compile(rf"(?<![A-Za-z0-9])(?:(?i:{either})|{'|'.join(sorted(classes)) or '(?!)'})(?![A-Za-z0-9])")


def test_what_counts_as_a_mention():
    """The words are those of the folder, and parts of others are none."""
    found = {plugin.name: words_of(plugin) for plugin in PLUGINS}
    assert all(len(names) >= 3 and classes for names, classes in found.values()), found
    for plugin in PLUGINS:
        pattern, (names, classes) = pattern_of(plugin), found[plugin.name]
        for name in names:
            for text in (f"as in {name}.", f"a_{name}", f"{name.upper()}s and {name.title()}", name.replace("-", " ")):
                assert pattern.search(text), text
            assert not pattern.search(f"x{name}x, {name}x")
        assert all(pattern.search(f"a {name}(4)") for name in classes)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_nothing_here_mentions_a_plugin(plugin):
    """Neither code nor docstrings, help, templates or YAML: whoever adds a modality edits no file of ours."""
    pattern = pattern_of(plugin)
    bad = []
    for path in sorted(p for p in MMM.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate([str(path.relative_to(MMM)), *text.splitlines()]):
            if mention := pattern.search(line):
                bad.append(f"{name_of(path)}:{number} says {mention[0]!r}" if number else f"{name_of(path)} is called so")
    faults(bad, f"mmm/ knows no plugin, and these name {plugin.name}:")


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_plugins_use_public_names(plugin):
    bad = []
    for file in sources_of(plugin):
        for node in ast.walk(tree(file)):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [f"{node.module}.{a.name}" for a in node.names]
            for root, *parts in (module.split(".") for module in modules):
                if root == "mmm" and any(part.startswith("_") for part in parts):
                    bad.append(f"{plugin.name}/{file.relative_to(plugin)}:{node.lineno} imports {'.'.join([root, *parts])}")
    faults(bad, "A plugin builds on public names; where it needs another, the contract is too small:")


GLOBAL = re.compile(
    r"(random|np\.random|numpy\.random)\..+"
    r"|torch\.(rand|randn|randint|randperm|bernoulli|multinomial|normal|poisson|rand_like|randn_like|randint_like)"
    r"|torch(\.cuda|\.random)?\.(manual_seed|manual_seed_all|seed|set_rng_state)"
    r"|.*\.(uniform_|normal_|bernoulli_|random_|exponential_|log_normal_|geometric_|cauchy_)|(.*\.)?seed_everything"
)


def test_no_global_random_state():
    """In core and the families. Initial weights are drawn from it (nn.init, nn.Parameter): the run seeds that once."""
    bad = []
    for path in FILES:
        if package_of(path) not in {"core", "nn", "data", *FAMILIES}:
            continue
        allowed = set()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and dotted(node.func).endswith("nn.Parameter"):
                allowed |= set(ast.walk(node))
            if isinstance(node, ast.FunctionDef) and "random.setstate(" in ast.unparse(
                node
            ):  # a library's draw, keyed and undone
                allowed |= set(ast.walk(node))
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or node in allowed:
                continue
            name = dotted(node.func)
            own_generator = any(k.arg == "generator" for k in node.keywords) or re.fullmatch(
                r"np\.random\.(default_rng|Generator)", name
            )
            if not GLOBAL.fullmatch(name) or name.startswith("nn.init.") or own_generator:
                continue
            if name_of(path) == "core/training.py" and name in ("torch.manual_seed", "torch.cuda.manual_seed_all"):
                continue
            bad.append(f"{name_of(path)}:{node.lineno} {name}")
    faults(bad, "Take random numbers from a Draw, keyed by the record:")


def test_nothing_unpickles_and_nothing_is_executed():
    bad = []
    for path in FILES:
        where = name_of(path)
        for module, _, line in imports(path):
            risky = module.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
            if risky and package_of(path) != "testing":  # which writes pickles, to see that they can be written
                bad.append(f"{where}:{line} imports {module}")
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            name, keywords = dotted(node.func), {k.arg: k.value for k in node.keywords}
            say = f"{where}:{node.lineno} {name}"
            if name in ("eval", "exec", "os.system", "yaml.unsafe_load") or re.fullmatch(r"pickle\.loads?|.*\.Unpickler", name):
                bad.append(say)
            if name == "torch.load" and getattr(keywords.get("weights_only"), "value", None) is not True:
                bad.append(f"{say} without weights_only=True")
            if name in ("np.load", "numpy.load") and getattr(keywords.get("allow_pickle"), "value", None) is not False:
                bad.append(f"{say} without allow_pickle=False")
            for keyword in ("allow_pickle", "trust_remote_code", "shell"):
                if keyword in keywords and getattr(keywords[keyword], "value", None) is not False:
                    bad.append(f"{say} with {keyword}")
            if name.endswith(".extractall"):
                bad.append(say)
    faults(bad, "What comes from outside is data, never code:")


def load(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def family_files() -> list[str]:
    return [name_of(p) for p in FILES if package_of(p) in FAMILIES and not p.name.startswith("_")]


def classes(file: str) -> list[type]:
    """Public concrete classes of the family's base in one file."""
    base = load(OTHER_BASE.get(file, FAMILIES[file.split("/")[0]]))
    module = importlib.import_module("mmm." + file.removesuffix(".py").replace("/", "."))
    own = [
        c for n, c in vars(module).items() if inspect.isclass(c) and c.__module__ == module.__name__ and not n.startswith("_")
    ]
    return [c for c in own if issubclass(c, base) and not inspect.isabstract(c)]


@pytest.mark.parametrize("file", family_files())
def test_one_documented_class_a_file(file):
    own = classes(file)
    names = [c.__name__ for c in own]
    assert len(own) == 1 or (file in SEVERAL and own), (
        f"mmm/{file} has {len(own)} public classes of its family ({names}); one concept a file."
    )
    for cls in own:
        assert vars(cls).get("__doc__"), f"{cls.__name__} in mmm/{file} has no docstring."
        wants_paper = file.split("/")[0] != "modalities" and file not in SEVERAL and cls.__name__ not in WITHOUT_PAPER
        assert not wants_paper or "Paper:" in cls.__doc__, (
            f"{cls.__name__} in mmm/{file}: name its source in a line 'Paper: ..., arXiv:...', or list it in WITHOUT_PAPER."
        )


@pytest.mark.parametrize("file", family_files())
def test_every_argument_is_documented(file):
    for cls in classes(file):
        if "__init__" not in vars(cls):
            continue
        parameters = [p for p in inspect.signature(cls.__init__).parameters if p != "self"]
        doc = inspect.getdoc(cls) or ""
        missing = [p for p in parameters if not re.search(rf"\b{p}\b[^:]*:", doc.partition("Args:")[2])]
        inherited = {p for base in cls.__mro__[1:] for p in re.findall(r"\b(\w+):", (base.__doc__ or "").partition("Args:")[2])}
        assert not set(missing) - inherited, f"{cls.__name__} in mmm/{file}: {missing} stand under no 'Args:' of its docstring."


def test_every_module_begins_with_a_docstring():
    faults([name_of(p) for p in FILES if not ast.get_docstring(tree(p))], "A module says in its first line what it is:")


def test_no_file_is_large():
    faults(
        [f"{name_of(p)}: {p.stat().st_size} bytes" for p in FILES if p.stat().st_size > LARGEST],
        f"Over {LARGEST} bytes; split by concept:",
    )


def names() -> list[str]:
    """Every public name that a recipe or a program may hold on to."""
    found = [f"{file.split('/')[0]} {cls.__name__}" for file in family_files() for cls in classes(file)]
    return sorted([*found, *(f"mmm {n}" for n in getattr(importlib.import_module("mmm"), "__all__", []))])


def test_public_names_are_the_golden_ones():
    golden = GOLDEN.read_text(encoding="utf-8").splitlines()
    gone, new = sorted(set(golden) - set(names())), sorted(set(names()) - set(golden))
    assert not gone, (
        f"Public names have gone: {gone}. A published name is a contract: keep it, or deprecate it with version and "
        "replacement. If it was never released, run `python tests/test_structure.py`."
    )
    assert not new, (
        f"New public names: {new}. If they are meant to stay, run `python tests/test_structure.py` and commit the list."
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    GOLDEN.write_text("".join(n + "\n" for n in names()), encoding="utf-8")
