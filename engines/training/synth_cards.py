"""Model cards of the networks of synthetic contrasts."""

_MADE = """
## Made by

    {command}

{steps} of {planned} steps of {batch} crops, seed {seed}; weights averaged over the last steps.
Trained on the digital phantom alone, with its lesions (oedema, sclerosis, erosion, ankylosis, fat
metaplasia, Modic changes, metastases): random timing, flip angle, shading, noise, resolution.
Haemangioma, fracture, Schmorl nodes and discitis were held out, and so was the second phantom.

## Uncertainty

A second output is the scale of the error of each voxel, learnt with the image. {factor:.2f} times
that is stated as the 95 % interval; in patients kept for validation {outside:.1f} % of the voxels
of the body were outside, and the mean absolute error was {error:.4f} (1 is the {unit}).

## Measured

{measured}"""

CARDS = {
    "stir": """# Synthetic STIR {version}

Makes of T1w and T2w turbo spin echo stacks of the spine what a STIR (TR 4500, TE 50 ms, TI at the
null of fat) might have shown. For viewing only: it is never an input of triage or of triggers.
"""
    + _MADE
    + """
## Limits and failures

What T1w and T2w do not show is not there: oedema that is subtle in both can be lost. Published
synthetic STIR had a sensitivity of 0 to 67 % at a PPV of 75 to 100 % (Santilli, AJNR 46/3 552): a
normal synthetic STIR does not rule oedema out. It cannot show failed fat suppression, fluid in
motion, or anything that the phantom has not. Coils with strong shading, implants and postoperative
anatomy were not trained.
""",
    "ct": """# Synthetic CT {version}

Makes of water, fat, in-phase, opposed-phase and R2* images of a multi-echo gradient echo (three or
more echoes) values on the scale of Hounsfield, for looking at the outlines of bone. It is no CT:
never of the modality CT, never a measure of bone density, never for planning radiation.
"""
    + _MADE
    + """
## Limits and failures

How dense trabecular bone is does not follow from water, fat and R2*: its values are those which are
usual for such marrow, and the interval says how far off they may be. In published work the marrow
of a synthetic CT was poor for osteoporosis (s41598-025-05399-x). Air, cortical bone, metal and
calcification are all dark in these images; what tells them apart is where they lie, which is
learnt from a phantom. Erosions smaller than two voxels are lost.
""",
    "enhancement": """# Virtual contrast enhancement {version}

**The signal after contrast agent is not determined by images without contrast agent.** Two lesions
alike in every native contrast may take up gadolinium or not; here as in patients nothing before the
injection tells which. What this network adds is the average of a rule which the authors wrote into
a phantom. It is a research demonstrator behind a switch that is off by default. It must not be used
to decide that an injection is not needed, nor that one is.

Makes of T1w, T2w and STIR an estimate of what T1w gains by gadolinium: the difference map. The
image is T1w and that difference, and the uncertainty map goes with both.
"""
    + _MADE
    + """
## Limits and failures

A quarter of the simulated lesions take nothing up; the network shows them at the average. Its
interval is wide there, and is to be read before the image. Vessels, organs and joints are the
phantom's.
""",
}
