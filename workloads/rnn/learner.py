"""Settings of an online learner, and how to run it. Shared by all workloads that use the learning rules.

The defaults are the protocol `paper`: the values that the paper states. The paper states no learning rate,
initialisation or evaluation window. For these, the defaults are the values whose results came nearest to the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from raysweep.workloads.arrays import Array
from raysweep.workloads.interface import AddedLater, Cell
from raysweep.workloads.registry import Registry, unknown_name
from raysweep.workloads.requirements import missing_module
from raysweep.workloads.rnn.architectures import ARCHITECTURES
from raysweep.workloads.rnn.component import Scalar, owners, resolve
from raysweep.workloads.rnn.fused.form import Propagation, Size, not_fused, propagation_of
from raysweep.workloads.rnn.initial import INITIALIZERS, Initial, one_rounding_away
from raysweep.workloads.rnn.losses import LOSSES
from raysweep.workloads.rnn.masks import SELECTIONS
from raysweep.workloads.rnn.optimizers import OPTIMIZERS
from raysweep.workloads.rnn.probes import Findings, Schedule
from raysweep.workloads.rnn.rules import RULES
from raysweep.workloads.rnn.rules.uoro import Noise, UoroVariant
from raysweep.workloads.rnn.streams.stream import Stream
from raysweep.workloads.rnn.training import Learner, Trajectory, begin, train
from raysweep.workloads.seeds import generators, rounding_generator


def name_in(registry: Registry[Any]) -> Callable[[str], str]:
    """Return a pydantic validator that requires the value to be a name in the registry."""

    def check(name: str) -> str:
        if name not in registry:
            raise ValueError(unknown_name(registry.kind, name, registry))
        return name

    return check


InitializerName = Annotated[str, AfterValidator(name_in(INITIALIZERS))]


class LearnerConfig(BaseModel):
    """Settings of network, rule and optimiser. None stands for the default of the component that has the field."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    architecture: Annotated[str, AfterValidator(name_in(ARCHITECTURES))] = "tanh_rnn"
    hidden: int = Field(default=64, ge=1, le=2**16, description="hidden units, n")
    leak: float | None = Field(default=None, gt=0, le=1, description="alpha of tanh_rnn; 1: no leak")
    forget_bias: float | None = Field(default=None, description="of lstm: the forget gate's initial bias")
    radius_min: float | None = Field(default=None, ge=0, le=1, description="of lru: least initial |lam|")
    radius_max: float | None = Field(default=None, ge=0, le=1, description="of lru: greatest initial |lam|")
    phase_max: float | None = Field(default=None, gt=0, description="of lru: greatest initial phase, radians")
    fan_in: Annotated[int | None, AddedLater(None)] = Field(
        default=None, ge=1, description="of sparse_tanh_rnn: units that each unit reads"
    )
    graph: Annotated[int | None, AddedLater(None)] = Field(
        default=None, ge=0, description="of sparse_tanh_rnn: which graph of connections"
    )
    recurrent_init: InitializerName = "orthogonal"
    recurrent_scale: float = Field(default=0.3, ge=0, description="gain of the recurrent weights")
    input_init: InitializerName = "normal"
    input_scale: float = Field(default=0.1, ge=0)
    output_init: InitializerName = "normal"
    output_scale: float = Field(default=0.1, ge=0)
    loss: Annotated[str, AfterValidator(name_in(LOSSES))] = "mse"
    optimizer: Annotated[str, AfterValidator(name_in(OPTIMIZERS))] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    beta1: float | None = Field(default=None, ge=0, lt=1, description="of adam")
    beta2: float | None = Field(default=None, ge=0, lt=1, description="of adam and rmsprop")
    epsilon: float | None = Field(default=None, gt=0, description="of adam and rmsprop")
    normalize: Annotated[Literal["parameter", "group"] | None, AddedLater(None)] = Field(
        default=None, description="of rmsprop: what has a second moment of its own"
    )
    clip: float = Field(default=1.0, ge=0, description="greatest global norm of the gradient; 0: no clip")
    dtype: Literal["float32", "float64"] = "float32"
    decay: float | None = Field(default=None, ge=0, lt=1, description="of traces and pp_prop")
    window: int | None = Field(default=None, ge=1, description="of bptt, f_bptt and e_bptt, in steps")
    selection: Annotated[str, AfterValidator(name_in(SELECTIONS))] | None = None
    include_self: bool | None = Field(default=None, description="of sparse_rtrl: self is one of the k")
    fisher_window: int | None = Field(default=None, ge=1, description="of the Fisher selections, in steps")
    implementation: Literal["readable", "fused"] | None = Field(
        default=None, description="fused: compiled, for the masked-RTRL family; equal up to rounding at tol = 0"
    )
    rounding: Annotated[int, AddedLater(0)] = Field(
        default=0,
        ge=0,
        description="which weights one rounding (ulp) away from the seed's to start from; 0: the seed's",
    )
    spectrum_every: int | None = Field(default=None, ge=1, description="steps between singular values of J")
    alignment_every: int | None = Field(
        default=None, ge=1, description="steps between comparisons with the exact gradient"
    )
    tol: float | None = Field(default=None, ge=0, lt=1, description="of the fused replay: what is left at its end")
    uoro_variant: UoroVariant | None = Field(default=None, description="of uoro: how its rescaling avoids 0/0")
    noise: Noise | None = Field(default=None, description="of uoro: what its random vector is drawn from")
    rank: int | None = Field(default=None, ge=1, le=2**12, description="of ok: Kronecker products kept, r")
    feedback: Literal["symmetric", "random"] | None = Field(
        default=None, description="of eprop and rflo: how errors reach the units"
    )
    order: int | None = Field(default=None, ge=1, description="of snap: steps within which influence is kept")
    kernel_rate: float | None = Field(default=None, ge=0, description="of kernl: learning rate of its kernels")
    kernel_leak: float | None = Field(default=None, ge=0, description="of kernl: rate its kernels start to decay at")
    perturbation: float | None = Field(default=None, gt=0, description="of kernl: standard deviation of its noise")
    dni_rate: float | None = Field(default=None, ge=0, description="of dni: learning rate of its synthetic gradient")
    dni_interval: int | None = Field(default=None, ge=1, description="of dni: steps its bootstrap is held for")


KINDS = (
    ("architecture", ARCHITECTURES, owners(ARCHITECTURES)),
    ("optimizer", OPTIMIZERS, owners(OPTIMIZERS)),
)
RULE_SETTINGS = owners(RULES)
SELECTION_SETTINGS = owners(SELECTIONS)
CARRY_INFLUENCE = ("rtrl", "sparse_rtrl")
"""Rules that carry the influence matrix J_t from step to step. Only they allow `spectrum_every`, which measures J_t."""
DEFAULT_TOL = 1e-8
"""Default of `tol`.

A larger value changes full RTRL: with 1e-5, a mean error over five seeds was .0045 instead of .0008.
"""


def settle_learner(
    method: str, k: int | None, config: LearnerConfig
) -> tuple[int | None, dict[str, Scalar], list[str]]:
    """Determine the recorded k, and fill in the chosen components' defaults.

    Args:
        method: name of the rule.
        k: the k that the sweep states, or None.
        config: the config, whose fields are valid one by one.

    Returns:
        The recorded k, the completed settings, and the problems, one line each.
    """
    values: dict[str, Scalar] = {}
    problems: list[str] = []
    for label, registry, owned in KINDS:
        settings, more = resolve(label, getattr(config, label), registry, owned, config)
        values |= settings
        problems += more
    fan_in = values.get("fan_in")
    if isinstance(fan_in, int) and fan_in > config.hidden:
        problems.append(f"fan_in = {fan_in} with hidden = {config.hidden}; valid: 1 to {config.hidden}")
    if method not in RULES:
        return k, values, [*problems, unknown_name("method", method, RULES)]
    own, rule_problems = resolve("method", method, RULES, RULE_SETTINGS, config)
    rule = RULES[method]
    kind = ARCHITECTURES[config.architecture]
    reason = rule.undefined_on(kind.build(**{name: values[name] for name in kind.defaults}))
    if reason is not None:
        fitting = [
            name for name, entry in ARCHITECTURES.items() if rule.undefined_on(entry.build(**entry.defaults)) is None
        ]
        problems.append(
            f"method {method!r} is not defined on architecture {config.architecture!r}: {reason}; "
            f"it is on: {', '.join(fitting)}"
        )
    selection = own.get("selection")
    if selection is not None:
        settings, more = resolve("selection", str(selection), SELECTIONS, SELECTION_SETTINGS, config)
        own |= settings
        rule_problems += more
    elif config.fisher_window is not None:
        rule_problems.append(f"fisher_window has no effect on method {method!r}; it belongs to: sparse_rtrl")
    if rule.settle_k is None:
        k_problems = [] if k is None else [f"k = {k} has no effect on method {method!r}; leave k out"]
    else:
        k, k_problems = rule.settle_k(k, config.hidden, own)
    if config.spectrum_every is not None and method not in CARRY_INFLUENCE:
        carriers = ", ".join(CARRY_INFLUENCE)
        rule_problems.append(f"spectrum_every has no effect on method {method!r}; it belongs to: {carriers}")
    loop, loop_problems = _settle_implementation(propagation_of(method, k, config.hidden, own), config)
    return k, values | own | loop, problems + rule_problems + k_problems + loop_problems


def beyond_the_end(steps: int, values: Mapping[str, Scalar], config: LearnerConfig) -> list[str]:
    """Report windows and intervals that are longer than the run, one line each. `values` are completed settings."""
    problems = []
    probes = {"spectrum_every": config.spectrum_every, "alignment_every": config.alignment_every}
    for name in ("window", "fisher_window", *probes):
        value = probes[name] if name in probes else values.get(name)
        longest = steps - (name == "fisher_window")  # the mask it chooses acts from the next step on
        if isinstance(value, int) and value > longest:
            valid = f"1 to {longest}" if longest > 0 else f"none; more than {steps} steps"
            problems.append(f"{name} = {value} with steps = {steps}; valid: {valid}")
    return problems


def missing_compiler(config: LearnerConfig) -> str | None:
    """Return the installation command for numba if the config needs it and it is not installed; otherwise None."""
    return missing_module("numba", "paper") if config.implementation == "fused" else None


def _settle_implementation(form: Propagation | None, config: LearnerConfig) -> tuple[dict[str, Scalar], list[str]]:
    """Complete the settings `implementation` and `tol`, and report problems.

    The default is the compiled loop if it is possible and faster. Only a loop that reads the gradient back over kept
    steps (`Propagation.replays`) uses `tol`.
    """
    reason = not_fused(form, config.architecture, config.loss, config.optimizer)
    implementation = config.implementation or ("readable" if reason or not _compiling_pays(form, config) else "fused")
    if implementation == "fused" and reason:
        return {}, [f"implementation = 'fused': {reason}; leave implementation out"]
    replays = implementation == "fused" and form is not None and form.replays
    if replays:
        return {"implementation": implementation, "tol": DEFAULT_TOL if config.tol is None else config.tol}, []
    if config.tol is not None:
        return {}, ["tol has no effect here; it belongs to the fused implementation of rules that replay"]
    return {"implementation": implementation}, []


def _compiling_pays(form: Propagation | None, config: LearnerConfig) -> bool:
    """Tell whether the compiled loop is faster.

    It is not if every step needs J and k is so large that BLAS carries J faster.
    """
    if form is None or not form.carried:
        return True
    kind = ARCHITECTURES[config.architecture]
    architecture = kind.build(**kind.defaults)
    n = config.hidden
    return Size(n, form.k, architecture.components, architecture.gates, architecture.inputs(n, 1)).gather_pays


def build_learner(method: str, k: int | None, config: LearnerConfig, n_in: int, n_out: int) -> Learner:
    """Build the learner of a cell from its complete config."""
    architecture_kind = ARCHITECTURES[config.architecture]
    architecture = architecture_kind.build(**architecture_kind.settings(config))
    optimizer = OPTIMIZERS[config.optimizer]
    rule = RULES[method]
    size: dict[str, Any] = {"k": k} if rule.takes_k else {}
    if config.selection is not None and "selection" in rule.defaults:
        size |= {name: getattr(config, name) for name in SELECTIONS[config.selection].defaults}
    layout = architecture.layout(config.hidden, n_in, n_out)
    groups: dict[str, Any] = {"sizes": layout.sizes} if "normalize" in optimizer.defaults else {}
    return Learner(
        architecture=architecture,
        layout=layout,
        rule=rule.build(**size, **rule.settings(config)),
        optimizer=optimizer.build(learning_rate=config.learning_rate, **groups, **optimizer.settings(config)),
        loss=LOSSES[config.loss],
        clip=config.clip,
    )


def initial_theta(learner: Learner, config: LearnerConfig, n_in: int, n_out: int, rng: np.random.Generator) -> Array:
    """Draw the initial parameters (P,) in the config's dtype."""
    initial = Initial(
        config.recurrent_init,
        config.recurrent_scale,
        config.input_init,
        config.input_scale,
        config.output_init,
        config.output_scale,
    )
    drawn = learner.architecture.init(config.hidden, n_in, n_out, initial, rng)
    return learner.layout.join(drawn).astype(config.dtype)


def learn_along(
    cell: Cell,
    stream: Stream,
    progress: Callable[[float], None] = lambda fraction: None,
    keep_at: int | None = None,
) -> Trajectory:
    """Run a cell's learner along a stream. Streams with the same first steps give the same results in these steps.

    Args:
        cell: the cell, whose config is a complete `LearnerConfig`.
        stream: the data.
        progress: called with the completed fraction.
        keep_at: the step before which the parameters are copied to `Trajectory.kept`.
    """
    config: LearnerConfig = cell.config
    rngs = generators(cell.seed)
    n_in, n_out = stream.inputs.shape[1], stream.targets.shape[1]
    learner = build_learner(cell.method, cell.k, config, n_in, n_out)
    theta = initial_theta(learner, config, n_in, n_out, rngs.weights)
    if config.rounding:
        theta = one_rounding_away(theta, rounding_generator(cell.seed, config.rounding))
    schedule = Schedule(config.spectrum_every, config.alignment_every)
    if config.implementation == "fused":
        from raysweep.workloads.rnn.fused.train import train_fused

        return train_fused(
            learner, cell.method, cell.k, config, theta, stream, rngs, progress, schedule=schedule, keep_at=keep_at
        )
    begun = begin(learner, theta, config.hidden, n_in, rngs.mask)
    findings = Findings(schedule) if schedule.any else None
    return train(learner, begun, stream, rngs, progress, findings=findings, keep_at=keep_at)


def cost_of_step(method: str, k: int | None, config: LearnerConfig, n_in: int) -> float:
    """Estimate the microseconds per step on one core, within a factor of a few, to order the cells of a launch.

    See `raysweep.workloads.rnn.fused.form.Size`. The number of steps over which a gradient is read back depends on
    the data. With n = 64, a tanh RNN read back 10 to 12 steps at k = 4, and 80 to 290 at k = n. An LSTM read back
    about a hundred at any k, since its gradients pass along the cell state.
    """
    n = config.hidden
    kind = ARCHITECTURES[config.architecture]
    architecture = kind.build(**kind.settings(config))
    gates, components, m = architecture.gates, architecture.components, architecture.inputs(n, n_in)
    settings = RULES[method].settings(config)
    work = gates * components * RULES[method].cost(n, m, k, settings)
    if not architecture.recurrent:  # influence stays within units, whatever the rule
        work = min(work, float(gates * components * n * m))
    readable = 150 + 150 * gates + work / 40000
    form = propagation_of(method, k, n, settings)
    if config.implementation != "fused" or form is None:
        return readable
    steps_back = 100 if components > 1 else 10 + 100 * form.k / n
    if form.decay is not None or form.window is not None:
        steps_back = min(form.window or 1, steps_back)
    size = Size(n, form.k, components, gates, m)
    common = 5 + gates * n * m / 2000  # forward pass and optimiser
    if form.carried:
        return common + size.gathered_us
    return common + min(steps_back * size.back_us, size.two_levels_us)
