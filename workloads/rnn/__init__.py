"""Online learning of recurrent networks.

- `rules/`: learning rules, one file each. `rule.py` is their interface, `influence.py` the RTRL recursion they share.
- `architectures/`: networks, one file each. They are linearised at every step, as `linearization.py` defines.
- `streams/`: data, one file each.
- `losses.py`, `optimizers.py`, `initial.py`, `masks.py`, `readout.py`: the other parts of a learner. `parameters.py`
  stores its parameters in one vector.
- `training.py`: the readable training loop, in NumPy, for every rule on every architecture. Start here.
- `fused/`: the compiled training loop (numba) for the masked-RTRL family. At `tol` = 0 it equals the readable one
  up to rounding.
- `learner.py`: a learner's settings, their checks, and the choice between the two loops. `component.py` records which
  settings belong to which rule, architecture, optimiser or stream.
- `windows.py`: metrics. `probes.py`: measurements of influence and gradients during a run.
"""
