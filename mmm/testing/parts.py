"""The checks of what a plugin brings besides modalities.

Shape suffixes: T packed tokens.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from multiprocessing.pool import Pool
from typing import Any

import torch

from mmm.core.draw import Draw
from mmm.core.errors import did_you_mean
from mmm.core.modality import Modality
from mmm.core.target import Target
from mmm.core.tokens import Tokens
from mmm.data.packages import Package
from mmm.masking.uniform import Uniform
from mmm.plugins import Entry
from mmm.targets.token_ids import TokenIds

from .cases import BYSTANDER, Samples, model_of, specs
from .filling import check_sampler
from .learning import check_objective, check_target
from .nets import check_decoder, check_encoder
from .outcome import Outcome, attempt
from .places import check_corruption, check_masking
from .toys import batch, tiny_model, toy_raws, toys

SMALL = {"width": 32, "depth": 2, "heads": 4}
"""Arguments that make a network small, where its constructor has them."""

Found = Mapping[str, tuple[Modality, Samples]]
"""The plugin's own modalities, fitted, and records of them, by the names its recipes use."""


def check_part(package: Package, entry: Entry, found: Found, pool: Pool) -> Iterator[Outcome]:
    """What a class that is no modality promises, in every way that the recipes of its package construct it.

    Args:
        package: it came with. entry: it. found: the package's modalities. pool: of another process.
    """
    check = {
        "Target": _target,
        "Masking": _masking,
        "Corruption": _corruption,
        "Encoder": _encoder,
        "Decoder": _decoder,
        "Objective": _objective,
        "Sampler": _sampler,
    }.get(entry.role)
    if check is None:
        yield Outcome(entry.name, "imports", note=f"nothing more is checked of a {entry.role}")
        return
    for spec in specs(package, entry.name):
        told = ", ".join(f"{k}: {v}" for k, v in spec["init_args"].items())
        part = f"{entry.name}({told})" if 0 < len(told) < 60 else entry.name
        yield attempt(part, entry.role.lower(), check, entry, spec, found, pool)


def _tokens(found: Found) -> Tokens:
    """A batch of toys and of the plugin's own modalities."""
    raws = [*toy_raws(), *({name: raw} for name, (m, s) in found.items() for raw in s.raws(m.tokenizer))]
    return batch({**toys(), **{name: m for name, (m, _) in found.items()}}, raws)


def _masked(**parts: Any) -> Any:
    given = {"masking": "Uniform", "corruption": "MaskVector", "targets": {"image": "Pixels"}, **parts}
    return model_of({"image": BYSTANDER}, objective={"class_path": "MaskedModeling", "init_args": given}).objective


def _target(entry: Entry, spec: dict[str, Any], found: Found, pool: Pool) -> str:
    """It predicts some of the plugin's modalities, or of the toys, and refuses the others by name."""
    bound, refused = [], []
    tokens = _tokens(found)
    for name in (*found, *(n for n in tokens.names if n not in found)):
        (target,) = _masked(targets={"image": spec}).targets().values()
        try:
            copy.deepcopy(target).bind(name, tokens.tokenizers[name])
        except ValueError as error:
            refused.append(str(error))
            continue
        records = found[name][1].records if name in found else ()
        if type(target).fit is not Target.fit and not records:
            continue
        check_target(target, name, tokens, records if type(target).fit is not Target.fit else ())
        bound.append(name)
    assert bound, f"{entry.name} predicts nothing that is here: {refused[0] if refused else 'it needs records to fit on'}"
    return f"predicts {', '.join(bound)}"


def _masking(entry: Entry, spec: dict[str, Any], found: Found, pool: Pool) -> str:
    masking = _masked(masking=spec).masking
    check_masking(masking, _tokens(found), pool)
    return f"law: {masking.law}"


def _corruption(entry: Entry, spec: dict[str, Any], found: Found, pool: Pool) -> None:
    tokens = _tokens(found)
    check_corruption(_masked(corruption=spec).corruption, tokens, Uniform(0.4).hidden(tokens, 0, Draw(0)))


def _encoder(entry: Entry, spec: dict[str, Any], found: Found, pool: Pool) -> None:
    check_encoder(_network("encoder", entry, spec))


def _decoder(entry: Entry, spec: dict[str, Any], found: Found, pool: Pool) -> None:
    check_decoder(_network("decoder", entry, spec))


def _sampler(entry: Entry, spec: dict[str, Any], found: Found, pool: Pool) -> str:
    """On the plugin's own modalities of ids, or on a toy's."""
    modalities = {**toys(), **{name: copy.deepcopy(m) for name, (m, _) in found.items()}}
    model, tokens = tiny_model(modalities), _tokens(found)
    of_ids = [name for name in (*found, "ids") if tokens.tokenizers[name].choices is not None]
    for name in of_ids:
        target = TokenIds()
        target.bind(name, tokens.tokenizers[name])
        model.make_head("", name, target, "linear")
    may_T = torch.isin(tokens.layout.modality_T, torch.tensor([tokens.names.index(name) for name in of_ids]))
    hidden_T = Uniform(0.5).hidden(tokens, 0, Draw(0)) & may_T
    check_sampler(entry.load()(**spec["init_args"]), model, tokens, hidden_T)
    return f"fills in {', '.join(of_ids)}"


def _network(kind: str, entry: Entry, spec: dict[str, Any]) -> Any:
    small = {k: v for k, v in SMALL.items() if k in inspect.signature(entry.load()).parameters}
    given = {**spec, "init_args": {**spec["init_args"], **small}}
    training = model_of({"image": BYSTANDER}, **{kind: given})
    training.build(lambda address, part, name: None)
    return getattr(training.model, kind)


def _objective(entry: Entry, spec: dict[str, Any], found: Found, pool: Pool) -> str:
    """On the plugin's own modalities, where the recipe that names it needs no others."""
    if entry.load().metric is not None:
        return "a task: nothing more is checked without labels"
    named = set().union(*(v for v in spec["init_args"].values() if isinstance(v, dict) and "class_path" not in v))
    strange = sorted(named - found.keys())
    assert not strange, (
        f"a recipe constructs it on {strange[0]!r}, of which there are no samples. {did_you_mean(strange[0], found)}"
    )
    modalities = {name: copy.deepcopy(m) for name, (m, _) in found.items()}
    objective = model_of(dict.fromkeys(found, BYSTANDER), objective=spec).objective
    model = tiny_model(modalities)
    objective.setup(model)
    for target in objective.targets().values():
        target.fit(found[target.name][1].records)
    objective.build(model)
    check_objective(objective, model, batch(modalities, [{n: r} for n, (m, s) in found.items() for r in s.raws(m.tokenizer)]))
    return ", ".join(found)
