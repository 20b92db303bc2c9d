"""Training: the one LightningModule. It views a whole optimiser step, counts it over all processes, then runs it.

Shape suffixes: none; tensors stay inside the parts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .adapter import Adapter
from .batch import StepBatch
from .draw import Draw
from .modality import Assets, Modality, Record
from .model import Model
from .network import Decoder, Encoder
from .objective import Objective, Term
from .optimizer import Optimizer
from .tokens import Tokens
from .view import View

log = logging.getLogger("mmm")


class Fitted(Protocol):
    """What is fitted once and then restored: modalities and targets."""

    def fit(self, records: Sequence[Record]) -> None: ...
    def assets(self) -> Assets: ...
    def restore(self, assets: Assets) -> None: ...


class Start(Protocol):
    """Pretrained parts that a fresh run begins from."""

    def assets(self, address: str) -> Assets | None:
        """What the fitted part at this address is restored from; None where it is fitted anew."""

    def fill(self, model: Model) -> None:
        """Put the pretrained weights into the built model."""


class Training(LightningModule):
    """A model, an objective and an optimiser.

    The loss of a process is ``sum(weight x total x processes / global count)`` over its terms. Counts are global over
    processes and micro-batches, so one process, several, and accumulation give equal gradients.

    Args:
        modalities: by name, in the order that numbers them.
        encoder: shared by all modalities.
        objective: what is learned.
        decoder: makes answers of what the encoder returns.
        optimizer: what moves the weights, and its schedule.
        modality_vector: add one learned vector a modality to its tokens.
        adapter: what of the model is trained; all of it without one.
        seed: of every random number of the run.
    """

    def __init__(
        self,
        modalities: dict[str, Modality],
        encoder: Encoder,
        objective: Objective,
        decoder: Decoder,
        optimizer: Optimizer,
        modality_vector: bool = False,
        adapter: Adapter | None = None,
        seed: int = 0,
    ):
        super().__init__()
        if not modalities:
            raise ValueError("a model needs at least one modality")
        self.automatic_optimization = False
        self.optimizer_settings = optimizer
        self.seed, self.modality_vector = seed, modality_vector
        self._parts = (modalities, encoder, decoder)  # in a tuple: registered once, as parts of the model
        self.model: Model
        self.objective, self.adapter = objective, adapter
        self.draw = Draw(seed)
        self.last_terms: list[Term] = []  # of the last step, global
        self._warned = False  # of a step that asks for nothing
        self.last_tokens = 0
        self.assets: dict[str, Assets] = {}
        self.recipe = ""  # the text of the resolved recipe, carried by every checkpoint
        self.start: Start | None = None  # what a fresh run begins from

    # -- life ------------------------------------------------------------------------------------------------------------------

    @property
    def modalities(self) -> dict[str, Modality]:
        return self._parts[0]

    def build(self, settle: Callable[[str, Fitted, str], None]) -> None:
        """Make the model: fit or restore modalities, build, set up the objective, fit or restore its targets, adapt.

        Args:
            settle: called as ``settle(address, part, modality)`` for every part that can be fitted.
        """
        modalities, encoder, decoder = self._parts
        for name, modality in modalities.items():
            settle(f"modalities/{name}", modality, name)
        self.model = Model(modalities, encoder, decoder, self.modality_vector)
        self.objective.setup(self.model)
        for address, target in self.objective.targets().items():
            settle(f"targets/{address}", target, target.name)
        self.objective.build(self.model)
        if self.start is not None:
            self.start.fill(self.model)
        if self.adapter is not None:
            self.adapter.adapt(self.model)

    def restore(self, assets: dict[str, Assets]) -> None:
        """Make the model of a checkpoint's assets. Raises KeyError where some are missing."""
        self.assets = assets
        self.build(lambda address, part, _: part.restore(assets[address]))

    def configure_model(self) -> None:
        """On a fresh run rank 0 fits, everybody restores from RUN/assets; on resume everybody restores."""
        if hasattr(self, "model"):
            return
        folder = Path(self.trainer.default_root_dir) / "assets"
        records: Callable[[str], Sequence[Record]] = self.trainer.datamodule.training_records  # type: ignore[attr-defined]

        def settle(address: str, part: Fitted, name: str) -> None:
            place = folder / address
            if not place.exists() and self.trainer.is_global_zero:
                given = self.start.assets(address) if self.start is not None else None
                if given is None:
                    part.fit(records(name))
                else:
                    part.restore(given)
                    if isinstance(part, Modality) and part.extend(records(name)):
                        given = None
                write_assets(place, part.assets() if given is None else given)
            self.trainer.strategy.barrier()
            self.assets[address] = read_assets(place)
            part.restore(self.assets[address])

        # The trainer may have made its device the default; what is fitted works on the host, and weights that are drawn there
        # are the same for every device.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.draw.stream("init").seed())
            self.build(settle)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Raises ValueError for float16, whose scaled gradients could not be clipped here, and for what weights in bfloat16
        cannot do."""
        if self.trainer.precision == "16-mixed":
            raise ValueError(
                "trainer.precision 16-mixed is not supported: its gradients are scaled; choose bf16-mixed or 32-true"
            )
        if self.trainer.precision == "bf16-true":
            self._check_copies()
        factors = self.adapter.rates(self.model) if self.adapter is not None else None
        return self.optimizer_settings.build(self.trained(), factors, self.hidden_matrices())

    def _check_copies(self) -> None:
        """Weights in bfloat16 are moved by their float32 copies alone, and hold one gradient."""
        if self.adapter is not None:
            raise ValueError(
                f"trainer.precision bf16-true trains whole models; the adapter {type(self.adapter).__name__} needs bf16-mixed"
            )
        if getattr(self.trainer.datamodule, "max_tokens_per_rank", None) is not None:  # type: ignore[attr-defined]
            raise ValueError(
                "trainer.precision bf16-true would sum the gradients of several micro-batches in bfloat16; leave "
                "data.max_tokens_per_rank out, or choose bf16-mixed"
            )

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Of the products inside encoder and decoder."""
        inside = [*self.model.encoder.modules(), *self.model.decoder.modules()]
        return [cast(nn.Parameter, module.weight) for module in inside if isinstance(module, nn.Linear)]

    def trained(self) -> Iterable[nn.Parameter]:
        """Every parameter of the model, of the objective and of the adapter, once; frozen ones too."""
        seen: set[int] = set()
        adapter = self.adapter.parameters() if self.adapter is not None else ()
        for parameter in [*self.model.parameters(), *self.objective.parameters(), *adapter]:
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter

    @property
    def progress(self) -> float:
        """The share of training done, 0 to 1."""
        steps = self.trainer.max_steps
        return min(1.0, self.global_step / steps) if steps > 0 else 0.0

    # -- one step --------------------------------------------------------------------------------------------------------------

    def transfer_batch_to_device(self, batch: StepBatch, device: torch.device, dataloader_idx: int) -> StepBatch:
        return batch  # views are made on the host first

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        step, progress = self.global_step, self.progress
        # Dropout has no keyed form in the library; a generator seeded by the step is the next best thing.
        torch.manual_seed(self.draw.stream("dropout").at(step, self.global_rank).seed())
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        work = [(tokens, self.objective.views(tokens, progress, self.draw)) for tokens in batch.micro]
        counts, present = self._count(work)
        totals = torch.zeros(len(counts), dtype=torch.float64)
        optimizer.zero_grad()
        for i, (tokens, views) in enumerate(work):
            with self._unsynchronised(last=i == len(work) - 1):
                terms = self._terms(tokens, views, progress)
                assert [t.name for t in terms] == list(counts), "terms and counts differ in names or order"
                self.manual_backward(self._loss(terms, counts))
                totals += torch.tensor([float(t.total.detach()) for t in terms], dtype=torch.float64)
        totals = self._sum(totals)
        self.last_terms = [Term(n, t, c) for (n, c), t in zip(counts.items(), totals, strict=True)]
        self.last_tokens = int(sum(present.values()))
        self._check_finite(step, *self.last_terms)
        if not any(counts.values()):  # nothing to learn from: no step, no decay
            optimizer.zero_grad()
            self._warn_of_nothing(step)
        for name, tokens_there in present.items():
            if tokens_there == 0:  # untouched, too
                for parameter in self.model.of_modality(name):
                    parameter.grad = None
        if self.adapter is not None:
            self.adapter.after_backward(self.model, progress)
        settings = self.optimizer_settings
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step, self.trainer.max_steps) * group["factor"]
        if settings.clip is not None:
            norm = nn.utils.clip_grad_norm_([p for p in self.trained() if p.grad is not None], settings.clip)
            self._check_finite(step, Term("gradient", norm, 1.0))
        optimizer.step()
        self.objective.after_step(self.model, progress)
        if self.adapter is not None:
            self.adapter.after_step(self.model, progress)
        for term in self.last_terms:
            if term.count:
                self.log(term.name, float(term.total) / term.count, prog_bar=True, batch_size=1, rank_zero_only=True)

    def validation_step(self, batch: StepBatch, batch_idx: int) -> list[Term]:  # type: ignore[override]
        """Totals and counts of this process; always asked as at the end of training, so that values can be compared."""
        (tokens,) = batch.micro
        views = self.objective.views(tokens, 1.0, self.draw)
        return self._terms(tokens, views, 1.0)

    def _terms(self, tokens: Tokens, views: Sequence[View], progress: float) -> list[Term]:
        device = self.device
        return self.objective(self.model, tokens.to(device), [v.to(device) for v in views], progress)  # type: ignore[no-any-return]

    def _count(self, work: Sequence[tuple[Tokens, Sequence[View]]]) -> tuple[dict[str, float], dict[str, float]]:
        """(count of each term, tokens of each modality), over micro-batches and processes."""
        local: dict[str, float] = {}
        present = dict.fromkeys(self.model.names, 0.0)
        for tokens, views in work:
            for name, count in self.objective.counts(tokens, views).items():
                local[name] = local.get(name, 0.0) + count
            for name in present:
                present[name] += sum(run.tokens for run in tokens.runs[name])
        values = self._sum(torch.tensor([*local.values(), *present.values()], dtype=torch.float64)).tolist()
        split = len(local)
        return dict(zip(local, values[:split], strict=True)), dict(zip(present, values[split:], strict=True))

    def _loss(self, terms: Sequence[Term], counts: dict[str, float]) -> Tensor:
        """The share of this micro-batch in the loss; every parameter takes part, an absent modality's with a zero."""
        world = self.trainer.world_size
        losses = [t.weight * t.total * (world / counts[t.name]) for t in terms if counts[t.name] > 0]
        loss = torch.stack([x.float() for x in losses]).sum() if losses else torch.zeros((), device=self.device)
        if world > 1 or not loss.requires_grad:
            loss = loss + 0.0 * sum(p.sum() for p in self.trained() if p.requires_grad)
        return loss

    def _sum(self, values: Tensor) -> Tensor:
        """The sum over processes."""
        if self.trainer.world_size > 1:
            values = values.to(self.device) if dist.get_backend() == "nccl" else values
            dist.all_reduce(values)
        return values.cpu()

    def _warn_of_nothing(self, step: int) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "step %d asks for nothing, so nothing is learned: are records too short for the masking's rate?", step + 1
            )

    def _check_finite(self, step: int, *terms: Term) -> None:
        """Stop before a step that would spoil the weights."""
        for term in terms:
            if not bool(torch.isfinite(term.total)):
                raise ValueError(
                    f"step {step + 1}: {term.name} is {float(term.total)}; this step was not taken. "
                    "Lower the learning rate, lengthen the warm-up, or look for broken records"
                )

    def _unsynchronised(self, last: bool) -> Any:
        """Gradients cross processes once a step, with the last micro-batch."""
        wrapped = self.trainer.strategy.model
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext()

    # -- checkpoints -----------------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Assets travel as tensors of bytes, so that a checkpoint loads with ``weights_only=True``."""
        checkpoint["mmm_assets"] = {
            address: {file: torch.frombuffer(bytearray(data), dtype=torch.uint8) for file, data in assets.items()}
            for address, assets in self.assets.items()
        }
        checkpoint["mmm_recipe"] = self.recipe


def write_assets(folder: Path, assets: Assets) -> None:
    """Write named files; the folder appears whole or not at all."""
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    for file, data in assets.items():
        (part / file).write_bytes(data)
    part.rename(folder)


def read_assets(folder: Path) -> Assets:
    """Read named files."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
