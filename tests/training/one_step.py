"""Take optimiser steps with real parts and save gradients and terms; run by test_global_counts.py, also on several
processes."""

import json
import logging
import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer

from mmm.core.training import Training
from mmm.corruptions.mask_vector import MaskVector
from mmm.data.module import Data
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.masking.span import Span
from mmm.masking.uniform import Uniform
from mmm.modalities.protein import Protein
from mmm.modalities.text import Text
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.optimizers.adamw import AdamW
from mmm.targets.token_ids import TokenIds


class Keep(Callback):
    """Gradients before each optimiser step, summed over nothing: as the optimiser sees them."""

    def __init__(self):
        self.gradients, self.terms = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append({n: p.grad.clone() for n, p in pl_module.named_parameters() if p.grad is not None})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.terms.append([(t.name, float(t.total), t.count) for t in pl_module.last_terms])


def training() -> Training:
    torch.manual_seed(3)
    return Training(
        {"text": Text(vocabulary=300, max_length=48), "protein": Protein(max_length=64)},
        Transformer(32, 2, 4, rotary=1),
        MaskedModeling(
            {"text": Span(0.2), "protein": Uniform(0.2)},
            MaskVector({"text": 0.1}, {"text": 0.1}),
            {"text": TokenIds(), "protein": TokenIds()},
        ),
        Readout(),
        AdamW(lr=1e-3, clip=None),
        seed=3,
    )


def main(folder: str, devices: int, most: int | None, steps: int, name: str) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    data = Data(
        files={"text": f"{folder}/*.txt", "protein": f"{folder}/*.fasta"}, tokens_per_batch=900, max_tokens_per_rank=most
    )
    keep = Keep()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keep],
        default_root_dir=f"{folder}/{name}",
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    trainer.fit(training(), data)
    if trainer.is_global_zero:
        torch.save(keep.gradients, f"{folder}/{name}.gradients")
        Path(f"{folder}/{name}.json").write_text(json.dumps(keep.terms))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) or None, int(sys.argv[4]), sys.argv[5])
