"""The conformance kit: what every part of mmm promises, as functions that a plugin's own tests call too.

    from mmm.testing import check_modality

    def test_depth_conforms():
        check_modality(Depth(size=32), raws=[picture, another], same=None)

    def test_everything_that_the_installed_package_brings():
        check_plugin("mmm-depth")

Every check raises AssertionError with a sentence that says what is wrong and how it is mended. The kit needs no network, no
file and no GPU.
"""

from .files import check_files, damaged
from .filling import check_sampler
from .learning import check_learns, check_objective, check_target
from .modality import check_modality
from .nets import check_decoder, check_encoder
from .pieces import check_piece, check_positions, check_round_trip, check_specials
from .places import check_corruption, check_counts, check_masking, check_view
from .plugin import check_plugin
from .tools import check_gradients, equal, found, near
from .toys import ToyIds, ToyPatches, ToyWave, batch, tiny_model, toy_raws, toys

__all__ = [
    "ToyIds",
    "ToyPatches",
    "ToyWave",
    "batch",
    "check_corruption",
    "check_counts",
    "check_decoder",
    "check_encoder",
    "check_files",
    "check_gradients",
    "check_learns",
    "check_masking",
    "check_modality",
    "check_objective",
    "check_piece",
    "check_plugin",
    "check_positions",
    "check_round_trip",
    "check_sampler",
    "check_specials",
    "check_target",
    "check_view",
    "damaged",
    "equal",
    "found",
    "near",
    "tiny_model",
    "toy_raws",
    "toys",
]
