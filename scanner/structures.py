"""The structures a labelled spine is made of: one fixed list for phantoms, training and scoring.

`STRUCTURES[label]` is the name of a label; names are those of `gadgets.items.LabelMap`. A disc is
named after both its neighbours, also where the numbering is unusual ("L4/S1", "L6/S1"). Vertebrae
are bodies without their arches; "S1" is the body of S1, "sacrum" all other sacral bone;
"SI_left" and "SI_right" are joint space and both subchondral surfaces.
"""

from itertools import pairwise

VERTEBRAE = ("T8", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "L6", "S1")
_CHAIN = (*VERTEBRAE[:10], "S1")
DISCS = (
    *(f"{above}/{below}" for above, below in pairwise(_CHAIN)),
    "L4/S1",
    "L5/L6",
    "L6/S1",
    "S1/S2",
)
STRUCTURES = ("", *VERTEBRAE, *DISCS, "canal", "sacrum", "SI_left", "SI_right")
LABEL = {name: label for label, name in enumerate(STRUCTURES)}
"""Label of a name."""
