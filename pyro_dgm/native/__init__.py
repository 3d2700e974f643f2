"""Everything that is compiled for this processor, behind one door: draws of bits, products, tempering, recursions.

Other rooms import from here and from no file inside. A loop takes neither another device nor another precision, and small
sizes do not pay. There ``bernoulli`` and ``linear`` fall back to plain torch; ``draw_at_temperatures``, ``weigh_and_draw``,
``swap_replicas``, ``sweep_bits``, ``bit_log_probs`` and ``log_sum_of_layer`` return None; before ``PackedBits`` and the
recursion callers ask ``moves_bits``, ``steps_pay``, ``sweeps_pay`` and ``recursion_pays``, and networks and a
step of tempering ask ``multiplies_bits``. Importing this room compiles nothing and does not import Numba.

Inside: ``draws``, ``log_probs``, ``layer_sums``, ``products``, ``precision``, ``packed``, ``few_sweeps``, ``columns`` and
``swaps`` are the door; ``processor`` says what the processor is and when a loop pays; the other files are loops.
"""

from .columns import recursion_backward, recursion_forward
from .draws import bernoulli, bernoulli_, draw_at_temperatures, weigh_and_draw
from .few_sweeps import sweep_bits
from .guard import runs_at_once
from .layer_sums import log_sum_of_layer
from .log_probs import bit_log_probs
from .packed import Flow, PackedBits
from .precision import PRECISIONS, check_precision, has_bfloat16_products, out_of_autocast
from .processor import (
    moves_bits,
    multiplies_bfloat16,
    multiplies_bits,
    processor_name,
    recursion_pays,
    steps_pay,
    sweeps_pay,
    vector_instructions,
)
from .products import linear
from .swaps import swap_replicas

__all__ = [
    "PRECISIONS",
    "Flow",
    "PackedBits",
    "bernoulli",
    "bernoulli_",
    "bit_log_probs",
    "check_precision",
    "draw_at_temperatures",
    "has_bfloat16_products",
    "linear",
    "log_sum_of_layer",
    "moves_bits",
    "multiplies_bfloat16",
    "multiplies_bits",
    "out_of_autocast",
    "processor_name",
    "recursion_backward",
    "recursion_forward",
    "recursion_pays",
    "runs_at_once",
    "steps_pay",
    "swap_replicas",
    "sweep_bits",
    "sweeps_pay",
    "vector_instructions",
    "weigh_and_draw",
]
