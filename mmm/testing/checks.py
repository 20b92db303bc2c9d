"""The checks of one modality, as one recipe of its plugin constructs it.

Shape suffixes: none.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import torch

from mmm.core.draw import Draw
from mmm.core.modality import Modality
from mmm.corruptions.mask_vector import MaskVector
from mmm.data.packages import Package
from mmm.masking.span import Span
from mmm.masking.uniform import Uniform
from mmm.objectives.masked_modeling import MaskedModeling

from . import embedding, pieces, runs
from .cases import Case, Samples, model_of, samples
from .files import check_files
from .learning import check_objective
from .modality import built_alike, restored_twin
from .outcome import Outcome, attempt
from .places import check_masking
from .speed import check_speed
from .toys import batch, tiny_model, toy_raws, toys

WIDTH = 32
NEEDED = ("constructs", "sample records", "fits", "pieces", "targets", "trains")
"""Checks without which the later ones mean nothing."""


class ModalityChecks:
    """The checks of one case.

    Args:
        package: it came with. case: it. pool: of another process.
    """

    def __init__(self, package: Package, case: Case, pool: Pool):
        self.package, self.case, self.pool = package, case, pool
        self.raws: list[Any] = []
        self.modality: Modality  # fitted, never built
        self.targets: Any = case.targets

    def all(self) -> Iterator[Outcome]:
        """Those that can be made: where one of ``NEEDED`` fails, the rest is left out."""
        with tempfile.TemporaryDirectory() as folder:
            self.folder = Path(folder)
            for steps in (self._beginning, self._tokens, self._vectors, self._model, self._whole_runs):
                for check, function in steps().items():
                    outcome = attempt(self.case.part, check, function)
                    yield outcome
                    if not outcome.ok and check in NEEDED:
                        return

    def _beginning(self) -> dict[str, Callable[[], Any]]:
        return {"constructs": self._construct, "sample records": self._samples, "fits": self._fit}

    def _construct(self) -> None:
        self.modality = self.case.make()

    def _samples(self) -> str:
        self.samples: Samples = samples(self.package, self.case, self.modality.tokenizer)
        return self.samples.source

    def _fit(self) -> None:
        self.twin = restored_twin(self.modality, self.samples.records)
        self.raws = self.samples.raws(self.modality.tokenizer)

    def _tokens(self) -> dict[str, Callable[[], Any]]:
        modality, raws = self.modality, self.raws
        return {
            "pieces": lambda: pieces.check_tokenizer(modality, raws, self.twin),
            "round trip": lambda: pieces.check_round_trip(modality, raws),
            "workers": lambda: pieces.check_workers(modality, raws, self.pool),
            "positions": lambda: pieces.check_positions(modality, raws),
            "specials and units": lambda: pieces.check_specials(modality, raws),
            "length": lambda: pieces.check_length(modality, self.samples.records),
            "malformed files": self._malformed,
            "speed": lambda: check_speed(modality, raws),
        }

    def _malformed(self) -> str:
        good = min(self.samples.files, key=lambda p: p.stat().st_size)
        with runs.quiet():
            refused = check_files(self.modality, good, self.folder)
        return f"20 copies of {good.name}: {refused} refused, {20 - refused} read"

    def _built(self) -> tuple[Modality, Modality, Any]:
        modality, twin = copy.deepcopy(self.modality), copy.deepcopy(self.twin)
        return modality, twin, built_alike(modality, twin, self.raws, WIDTH)

    def _vectors(self) -> dict[str, Callable[[], Any]]:
        def on_built(check: Callable[..., None], *arguments: Any) -> Callable[[], None]:
            def function() -> None:
                modality, _, tokens = self._built()
                check(modality, tokens, *arguments)

            return function

        def restored() -> None:
            modality, twin, tokens = self._built()
            embedding.check_restored(modality, twin, tokens)
            embedding.check_tied(modality, WIDTH)

        return {
            "gradients": on_built(embedding.check_embedded, WIDTH),
            "mask vector": on_built(embedding.check_hidden),
            "packed = alone": on_built(embedding.check_alone),
            "empty in a batch": lambda: embedding.check_absent(copy.deepcopy(self.modality), self.raws[0], WIDTH),
            "save and load": restored,
        }

    def _model(self) -> dict[str, Callable[[], Any]]:
        return {"mask counts": self._masks, "targets": self._find_targets, "objective": self._objective}

    def _masks(self) -> str:
        modalities = {**toys(), self.case.name: self.modality}
        tokens = batch(modalities, [*toy_raws(), *({self.case.name: raw} for raw in self.raws)])
        maskings = (Uniform(0.15), Uniform(0.7), Span(0.3, 2), Span(0.5, 5))
        for masking in maskings:
            check_masking(masking, tokens)
        return "Uniform and Span, beside other modalities"

    def _find_targets(self) -> str:
        tokenizer = self.modality.tokenizer
        if self.targets is None and tokenizer.choices is not None:
            self.targets = "TokenIds"
        elif self.targets is None and tokenizer.rowwise and tokenizer.empty().ndim == 2:
            self.targets = "Pixels"
        assert self.targets is not None, "no recipe names a target for it, and none that comes with mmm fits its content"
        return ", ".join(type(t).__name__ for t in self._made_targets())

    def _made_targets(self) -> list[Any]:
        """New ones, fitted."""
        objective = {
            "class_path": "MaskedModeling",
            "init_args": {"masking": "Uniform", "corruption": "MaskVector", "targets": {self.case.name: self.targets}},
        }
        made = list(model_of({self.case.name: self.case.spec}, objective=objective).objective.targets().values())
        for target in made:
            target.bind(self.case.name, self.modality.tokenizer)
            target.fit(self.samples.records)
        return made

    def _objective(self) -> None:
        modalities = {self.case.name: copy.deepcopy(self.modality)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(Draw(0).seed())
            model = tiny_model(modalities, width=WIDTH)
        targets = self._made_targets()
        objective = MaskedModeling(Uniform(0.4), MaskVector(), {self.case.name: targets})
        objective.setup(model)
        for target in targets:
            target.fit(self.samples.records)
        check_objective(objective, model, batch(modalities, [{self.case.name: raw} for raw in self.raws]))

    def _whole_runs(self) -> dict[str, Callable[[], Any]]:
        return {"trains": self._train, "exact resume": self._resume, "loads": self._load, "two processes": self._two}

    def _train(self) -> str:
        longest = max(map(self.modality.tokenizer.length, self.samples.records))
        self.recipe = runs.tiny_recipe(self.case, self.samples, self.targets, self.folder, longest)
        runs.run_whole(self.recipe, self.folder / "whole")
        return f"{runs.STEPS} steps, mixed with text"

    def _resume(self) -> None:
        runs.check_resume(self.recipe, self.folder / "whole", self.folder / "halted")

    def _load(self) -> str:
        return runs.check_loads(self.folder / "whole", self.case.name, self.raws)

    def _two(self) -> None:
        runs.check_two_processes(self.recipe, self.folder / "whole", self.folder / "two")
