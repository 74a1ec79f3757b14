"""Online learning of recurrent networks.

Where things are:

- `rules/`: learning rules, one file each; `rule.py` is their interface, `influence.py` the RTRL recursion they share.
- `architectures/`: networks, one file each, linearised at every step as `linearization.py` defines.
- `streams/`: data, one file each. `losses.py`, `optimizers.py`, `initial.py`, `masks.py`, `readout.py` hold the rest of
  a learner; `parameters.py` lays its parameters out in one vector.
- `training.py`: the readable loop, in NumPy, for every rule on every architecture. Start here.
- `fused/`: the compiled loop (numba) for the masked-RTRL family, equal to the readable one up to rounding.
- `learner.py`: a learner's settings, their checks, and the choice between the two loops; `component.py` gives each
  setting to its owner.
- `windows.py`: metrics; `probes.py`: measurements of influence and gradients during a run.
"""
