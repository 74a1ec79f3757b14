"""What a step of (sparse) RTRL costs: plain torch, JAX, raysweep's readable loop and its compiled one.

    python benchmarks/rules.py [--sizes 64,128,256] [--rounds 3] [--quick] [--json]
    python benchmarks/rules.py --large [--json]

The task is Experiment 1's: a tanh RNN of n units predicts the sine's next value, one update a step, float32,
Adam, gradients clipped to norm 1. Cases are each n with the ring of k = 4 and in full (k = n). All contenders
start from the same weights and see the same values; where they made equally many steps the table says how far
their weights are apart in the end. Learning can amplify rounding, so a yardstick stands below: how
far torch in float32 is from torch in float64, and, with no cut (tol = 0), the compiled loop in float64 from it.

The torch side is the paper's own description: J of shape (n, n, m) is carried, J = einsum(diag(d) (M * W), J)
+ immediate, `torch.optim.Adam`, subnormal numbers flushed to zero (else they slow it down). It does the dense
product at k = 4 too, as the paper's does; what a gather makes of it is seen in raysweep's readable loop. The
JAX side is the same in one `lax.scan`, compiled ahead (not timed). Either is optional.

Every contender has a process of its own with one thread, which stays from round to round; rounds alternate
between them, so that a disturbance of the machine meets all. A round is a run from the initial weights.
Imports and compilation are excluded. Torch and JAX make the same operations at every step, so a few steps say
what one costs. The compiled loop's steps grow dearer as credit reaches further back: it is timed over the
same few steps (for the weights) and over a long run, which is the one that is held against the aims, by wall
time or by CPU time, whichever ratio is smaller. On a busy machine trust the CPU time; better, use an idle one.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ENVIRONMENT = {  # one thread each
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "NPROC": "1",  # the size of XLA's pool of threads
}
LABELS = {
    "torch": "torch, J carried",
    "jax": "JAX, J carried, lax.scan, jitted",
    "readable": "raysweep, readable",
    "compiled": "raysweep, compiled",
}
RATE, BETA1, BETA2, EPSILON, CLIP = 1e-3, 0.9, 0.999, 1e-8, 1.0
AIMS = ((500.0, 256, 4, 2000), (50.0, 256, 256, 300), (100.0, 64, 4, 2000), (15.0, 64, 64, 2000))  # ratio, n, k, steps
LARGE = ((1024, 4, 2000, 20.0, 1024.0), (512, 512, 2000, 600.0, 4096.0))  # n, k, steps, seconds, MiB
WARM_UP = 3
SEED = 0

Run = Callable[[], tuple[list[Any], dict[str, float]]]
"""Learns from the start; returns [W U b] (n, m), V, c and details of the run."""


class Case(NamedTuple):
    """One size, and the steps to run."""

    n: int
    k: int
    common: int  # steps that all make
    long: int  # steps that the compiled loop makes besides


def cases(sizes: list[int], quick: bool) -> list[Case]:
    """Each size sparse and in full."""
    chosen = []
    for n in sizes:
        for k in (4, n):
            common = 20 if quick else max(10, min(300, round(1.7e11 / n**4)))  # some seconds of torch
            long = 100 if quick else 300 if k == n >= 200 else 2000
            chosen.append(Case(n, k, common, long))
    return chosen


def settled(n: int, k: int) -> tuple[str, int | None, Any]:
    """The rule, its k and the config: the defaults are the paper's protocol."""
    from raysweep.workloads.online_rnn import Config, settle

    method = "rtrl" if k == n else "sparse_rtrl"
    k_settled, config = settle(method, k, Config(hidden=n))
    numbers = (config.learning_rate, config.beta1, config.beta2, config.epsilon, config.clip, config.leak)
    assert numbers == (RATE, BETA1, BETA2, EPSILON, CLIP, 1.0)
    assert (config.loss, config.optimizer, config.dtype) == ("mse", "adam", "float32")
    return method, k_settled, config


def built_stream(config: Any, steps: int) -> Any:
    """The sine's first steps."""
    from raysweep.workloads.rnn.streams import STREAMS
    from raysweep.workloads.seeds import generators

    kind = STREAMS[config.stream]
    return kind.build(steps, generators(SEED).stream, **kind.settings(config))


def write_start(folder: Path, n: int, k: int, steps: int, yardstick: bool) -> None:
    """Write the common start of all contenders, and compile the kernels if necessary. Not a contender."""
    import numpy as np

    from raysweep.workloads.rnn.learner import build_learner, initial_theta
    from raysweep.workloads.rnn.masks import draw_mask
    from raysweep.workloads.seeds import generators

    method, k_settled, config = settled(n, k)
    stream = built_stream(config, steps)
    learner = build_learner(method, k_settled, config, 1, 1)
    parameters = learner.layout.split(initial_theta(learner, config, 1, 1, generators(SEED).weights))
    theta = np.concatenate([parameters["W"], parameters["U"], parameters["b"][:, None]], axis=1)
    mask = draw_mask("ring", n, k, False, generators(SEED).mask)
    np.savez(
        folder / "start.npz",
        theta=theta,
        V=parameters["V"],
        c=parameters["c"],
        mask=mask.astype(theta.dtype),
        inputs=stream.inputs,
        targets=stream.targets,
    )
    compiled(folder, n, k, 2)()
    if yardstick:
        compiled(folder, n, k, 2, "float64")()


def read_start(folder: Path, dtype: str) -> dict[str, Any]:
    """Theta (n, m), V (1, n), c (1,), mask (n, n), inputs and targets (T, 1)."""
    import numpy as np

    with np.load(folder / "start.npz") as stored:
        return {name: values.astype(dtype) for name, values in stored.items()}


def by_torch(folder: Path, n: int, k: int, steps: int, dtype: str = "float32") -> Run:
    """RTRL as in the paper, in eager torch."""
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.set_default_dtype(getattr(torch, dtype))
    start = {name: torch.from_numpy(values) for name, values in read_start(folder, dtype).items()}
    mask, inputs, targets = start["mask"], start["inputs"], start["targets"]
    units, one = torch.arange(n), torch.ones(1)

    @torch.no_grad()
    def run() -> tuple[list[Any], dict[str, float]]:
        theta, V, c = parameters = [start[name].clone().requires_grad_() for name in ("theta", "V", "c")]
        optimizer = torch.optim.Adam(parameters, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON)
        h, J = torch.zeros(n), torch.zeros(n, n, theta.shape[1])
        for t in range(steps):
            ahat = torch.cat([h, inputs[t], one])
            h = torch.tanh(theta @ ahat)
            error = 2 * (V @ h + c - targets[t])
            d = 1 - h * h
            J = torch.einsum("ij,jkl->ikl", d[:, None] * (mask * theta[:, :n]), J)
            J[units, units] += torch.outer(d, ahat)
            theta.grad = torch.einsum("i,ikl->kl", error @ V, J)
            V.grad, c.grad = torch.outer(error, h), error
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
        return [part.detach().numpy() for part in parameters], {}

    return run


def by_jax(folder: Path, n: int, k: int, steps: int) -> Run:
    """RTRL in one JAX scan."""
    import jax
    import jax.numpy as jnp

    start = {name: jnp.asarray(values) for name, values in read_start(folder, "float32").items()}
    mask, units, one = start["mask"], jnp.arange(n), jnp.ones(1)
    begun = [start[name] for name in ("theta", "V", "c")]

    def step(now: Any, seen: Any) -> tuple[Any, None]:
        (theta, V, c), first, second, h, J = now
        x, y, t = seen
        ahat = jnp.concatenate([h, x, one])
        h = jnp.tanh(theta @ ahat)
        error = 2 * (V @ h + c - y)
        d = 1 - h * h
        J = jnp.einsum("ij,jkl->ikl", d[:, None] * (mask * theta[:, :n]), J).at[units, units].add(jnp.outer(d, ahat))
        gradients = [jnp.einsum("i,ikl->kl", error @ V, J), jnp.outer(error, h), error]
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradients))
        factor = jnp.minimum(1.0, CLIP / (norm + 1e-6))
        first = [BETA1 * m + (1 - BETA1) * factor * g for m, g in zip(first, gradients, strict=True)]
        second = [BETA2 * v + (1 - BETA2) * (factor * g) ** 2 for v, g in zip(second, gradients, strict=True)]
        rate, correction = RATE / (1 - BETA1**t), jnp.sqrt(1 - BETA2**t)
        parameters = [
            p - rate * m / (jnp.sqrt(v) / correction + EPSILON)
            for p, m, v in zip((theta, V, c), first, second, strict=True)
        ]
        return (parameters, first, second, h, J), None

    zeros = [jnp.zeros_like(p) for p in begun]
    before = (begun, zeros, zeros, jnp.zeros(n), jnp.zeros((n, n, begun[0].shape[1])))
    seen = (start["inputs"][:steps], start["targets"][:steps], jnp.arange(1.0, steps + 1.0))
    ahead = jax.jit(lambda now, seen: jax.lax.scan(step, now, seen)[0][0]).lower(before, seen).compile()

    def run() -> tuple[list[Any], dict[str, float]]:
        parameters: list[Any] = ahead(before, seen)
        for part in parameters:
            part.block_until_ready()
        return parameters, {}

    return run


def _raysweep(folder: Path, n: int, k: int, steps: int, dtype: str) -> tuple[Any, Any, Any, Any]:
    from raysweep.workloads.rnn.learner import build_learner

    method, k_settled, config = settled(n, k)
    if dtype == "float64":
        config = config.model_copy(update={"dtype": dtype, "tol": 0.0})
    learner = build_learner(method, k_settled, config, 1, 1)
    start = read_start(folder, dtype)
    theta = start["theta"]
    named = {"W": theta[:, :n], "U": theta[:, n:-1], "b": theta[:, -1], "V": start["V"], "c": start["c"]}
    return (method, k_settled, config), learner, learner.layout.join(named), built_stream(config, steps)


def _parts(learner: Any, theta: Any) -> list[Any]:
    named = learner.layout.split(theta)
    return [learner.architecture.pack(named), named["V"], named["c"]]


def readable(folder: Path, n: int, k: int, steps: int) -> Run:
    """Raysweep's readable loop: J carried, in NumPy; gathered where that is faster."""
    from raysweep.workloads.rnn.training import begin, train
    from raysweep.workloads.seeds import generators

    _, learner, theta, stream = _raysweep(folder, n, k, steps, "float32")

    def run() -> tuple[list[Any], dict[str, float]]:
        rngs = generators(SEED)
        result = train(learner, begin(learner, theta, n, 1, rngs.mask), stream, rngs)
        assert len(result.losses) == steps
        return _parts(learner, result.theta), {}

    return run


def compiled(folder: Path, n: int, k: int, steps: int, dtype: str = "float32") -> Run:
    """Raysweep's compiled loop: the same gradient read back over the trajectory."""
    from raysweep.workloads.rnn.fused.train import train_fused
    from raysweep.workloads.seeds import generators

    (method, k_settled, config), learner, theta, stream = _raysweep(folder, n, k, steps, dtype)

    def run() -> tuple[list[Any], dict[str, float]]:
        result = train_fused(learner, method, k_settled, config, theta, stream, generators(SEED))
        assert len(result.losses) == steps
        depths = result.info["credit_horizon"]
        details = {"mean_depth": float(depths.mean()), "last_depth": float(depths[-1])}
        return _parts(learner, result.theta), details | result.metrics

    return run


CONTENDERS: dict[str, Callable[[Path, int, int, int], Run]] = {
    "torch": by_torch,
    "jax": by_jax,
    "readable": readable,
    "compiled": compiled,
    "torch64": functools.partial(by_torch, dtype="float64"),
    "compiled64": functools.partial(compiled, dtype="float64"),
}
IMPORTS = {
    "torch": "torch",
    "jax": "jax.numpy",
    "readable": "raysweep.workloads.online_rnn",
    "compiled": "raysweep.workloads.rnn.fused.train",
    "torch64": "torch",
    "compiled64": "raysweep.workloads.rnn.fused.train",
}


def peak_mib() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def serve(name: str, folder: Path, n: int, k: int) -> int:
    """A contender's process: a line of JSON once it is ready, and one for each requested number of steps."""
    try:
        __import__(IMPORTS[name])
        import numpy as np
    except ImportError:
        print(json.dumps({"problem": f"{name} is not installed"}), flush=True)
        return 0
    imports = peak_mib()
    prepare = CONTENDERS[name]
    prepare(folder, n, k, WARM_UP)()
    print(json.dumps({"imports_mib": imports}), flush=True)
    prepared: dict[int, Run] = {}
    for line in sys.stdin:
        steps = int(line)
        if steps not in prepared:
            prepared[steps] = prepare(folder, n, k, steps)
        wall, cpu = time.perf_counter(), time.process_time()
        parts, details = prepared[steps]()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        np.save(folder / f"{name}-{steps}.npy", np.concatenate([np.asarray(part).ravel() for part in parts]))
        print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mib": peak_mib(), "details": details}), flush=True)
    return 0


class Child:
    """The parent's end of a contender's process."""

    def __init__(self, arguments: list[str], folder: Path, n: int, k: int) -> None:
        root = str(Path(__file__).resolve().parent.parent / "src")
        paths = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
        self.errors = folder / f"{arguments[-1]}.stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, __file__, f"--folder={folder}", f"--n={n}", f"--k={k}", *arguments],
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": paths},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    @functools.cached_property
    def ready(self) -> dict[str, Any]:
        """The first answer: ready, or a problem."""
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        lines = self.errors.read_text().strip().splitlines()
        code = self.process.wait()
        return {"problem": lines[-1] if lines else f"exit code {code}"}

    def ask(self, steps: int) -> dict[str, Any]:
        """Run this many steps."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self._answer()

    def close(self) -> None:
        """Close stdin, which ends the process."""
        self.process.communicate()


def start_for(folder: Path, n: int, k: int, steps: int, yardstick: bool = False) -> None:
    """Run `write_start` in its own process: the children's peaks would include memory of the parent."""
    given = [f"--steps={steps}", *(["--yardstick"] if yardstick else []), "--contender=start"]
    child = Child(given, folder, n, k)
    answer = child.ready
    child.close()
    if "problem" in answer:
        raise RuntimeError(answer["problem"])


def measured(case: Case, folder: Path, rounds: int) -> dict[str, Any]:
    """The rows of one case, a contender and a number of steps each, and the yardstick."""
    start_for(folder, case.n, case.k, max(case.common, case.long), yardstick=True)
    children = {name: Child([f"--contender={name}"], folder, case.n, case.k) for name in LABELS}
    ready = {name: child.ready for name, child in children.items()}  # none is timed while another one still imports
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for name, child in children.items():
            for steps in (case.common, case.long) if name == "compiled" else (case.common,):
                answer = ready[name] if "problem" in ready[name] else child.ask(steps)
                runs.setdefault((name, steps), []).append(answer)
    for child in children.values():
        child.close()
    rows = []
    for (name, steps), answers in runs.items():
        row: dict[str, Any] = {"contender": name, "steps": steps}
        problems = [one["problem"] for one in answers if "problem" in one]
        if problems:
            rows.append(row | {"problem": problems[-1]})
            continue
        row |= {
            "wall_us": 1e6 * min(one["wall_s"] for one in answers) / steps,
            "wall_median_us": 1e6 * statistics.median(one["wall_s"] for one in answers) / steps,
            "cpu_us": 1e6 * min(one["cpu_s"] for one in answers) / steps,
            "peak_mib": answers[-1]["peak_mib"],
            "imports_mib": ready[name]["imports_mib"],
            **answers[-1]["details"],
        }
        torch = rows[0] if rows else row
        if "wall_us" in torch:
            row["wall_ratio"] = torch["wall_us"] / row["wall_us"]
            row["cpu_ratio"] = torch["cpu_us"] / row["cpu_us"]
            if steps == case.common:
                row["weights_apart"] = apart(folder / f"torch-{steps}.npy", folder / f"{name}-{steps}.npy")
        rows.append(row)
    if "problem" in rows[0]:
        return {"rows": rows, "yardstick": None}
    for name in ("torch64", "compiled64"):
        child = Child([f"--contender={name}"], folder, case.n, case.k)
        answer = child.ready if "problem" in child.ready else child.ask(case.common)
        child.close()
        if "problem" in answer:
            return {"rows": rows, "yardstick": None}
    single, torch64, compiled64 = (folder / f"{name}-{case.common}.npy" for name in ("torch", "torch64", "compiled64"))
    return {
        "rows": rows,
        "yardstick": {"torch_float32": apart(single, torch64), "compiled_float64": apart(compiled64, torch64)},
    }


def apart(one: Path, other: Path) -> float:
    """Largest absolute difference of two files of weights; NaN where either holds one."""
    import numpy as np

    return float(np.abs(np.load(one).astype(np.float64) - np.load(other).astype(np.float64)).max())


def compare(sizes: list[int], quick: bool, rounds: int, folder: Path | None) -> dict[str, Any]:
    """All cases, and which aims are met."""
    machine = {"cpus": os.cpu_count(), "load_at_start": os.getloadavg()[0]}
    began = time.perf_counter()
    tables = []
    with tempfile.TemporaryDirectory(prefix="raysweep-rules-", dir=folder) as place:
        for case in cases(sizes, quick):
            print(f"n = {case.n}, k = {case.k} ...", file=sys.stderr, flush=True)
            part = Path(place) / f"{case.n}-{case.k}"
            part.mkdir()
            tables.append({**case._asdict(), **measured(case, part, rounds)})
    aims = []
    for least, n, k, steps in AIMS:
        ratios = [
            min(row["wall_ratio"], row["cpu_ratio"])
            for table in tables
            if (table["n"], table["k"]) == (n, k)
            for row in table["rows"]
            if (row["contender"], row["steps"]) == ("compiled", steps) and "wall_ratio" in row
        ]
        size = f"k = {k}" if k < n else "full"
        aims.append(
            {
                "aim": f">= {least:g}x at n = {n}, {size}, over {steps:,} steps",
                "measured": ratios[0] if ratios else None,
                "met": ratios[0] >= least if ratios else None,
            }
        )
    machine |= {"load_at_end": os.getloadavg()[0], "seconds": time.perf_counter() - began}
    return {"rounds": rounds, "machine": machine, "tables": tables, "aims": aims}


def show(results: dict[str, Any]) -> None:
    """Print the comparison for people."""
    for table in results["tables"]:
        size = f"ring, k = {table['k']}" if table["k"] < table["n"] else "full, k = n"
        print(f"n = {table['n']}, {size}")
        print(
            f"  {'contender':<33}{'steps':>6}{'us a step':>13}{'median':>13}{'CPU us':>13}{'torch/it':>10}{'by CPU':>9}"
            f"{'peak MiB':>10}{'imports':>9}{'weights apart':>15}"
        )
        for row in table["rows"]:
            label = LABELS[row["contender"]]
            if "problem" in row:
                print(f"  {label:<33}{row['steps']:>6,}  {row['problem']}")
                continue
            ratios = (
                f"{row['wall_ratio']:>9,.1f}x{row['cpu_ratio']:>8,.1f}x"
                if "wall_ratio" in row
                else f"{'-':>10}{'-':>9}"
            )
            weights = f"{row['weights_apart']:>15.1e}" if "weights_apart" in row else f"{'-':>15}"
            print(
                f"  {label:<33}{row['steps']:>6,}{row['wall_us']:>13,.1f}{row['wall_median_us']:>13,.1f}"
                f"{row['cpu_us']:>13,.1f}{ratios}{row['peak_mib']:>10,.0f}{row['imports_mib']:>9,.0f}{weights}{depth(row)}"
            )
        if table["yardstick"]:
            single, double = table["yardstick"]["torch_float32"], table["yardstick"]["compiled_float64"]
            print(f"  apart from torch in float64: torch in float32 {single:.1e};", end=" ")
            print(f"raysweep compiled, float64, tol = 0: {double:.1e}")
        print()
    machine = results["machine"]
    print(
        f"Each contender in a process of its own, one thread, float32; {results['rounds']} rounds that alternate.\n"
        "us a step: of the fastest round; median: of the median round. Torch's and JAX's steps cost the same from\n"
        "first to last, so few say what one costs; the compiled loop's are timed over a long run too. peak MiB: of\n"
        "the process; imports: what it had after them. weights apart: largest difference of the final weights from\n"
        "torch's after as many steps. depth: steps that credit was read back over, mean and last."
    )
    print(
        f"{machine['cpus']} CPUs; load average {machine['load_at_start']:.1f} at start, {machine['load_at_end']:.1f} "
        f"at end; {machine['seconds']:.0f} s in all.\n"
    )
    for aim in results["aims"]:
        if aim["met"] is None:
            print(f"aim: {aim['aim']}: not measured")
        else:
            print(f"aim: {aim['aim']}: measured {aim['measured']:,.1f}x, {'met' if aim['met'] else 'missed'}")


def depth(row: dict[str, Any]) -> str:
    """Replay depth and hand-over of the compiled loop, as text."""
    if "mean_depth" not in row:
        return ""
    text = f"  depth {row['mean_depth']:.0f}, {row['last_depth']:.0f}"
    if "replay_cut" in row:
        text += f"; {row['replay_cut']:,.0f} steps cut by the bound of memory"
    return text + (f"; J carried from step {row['carried_from']:,.0f}" if "carried_from" in row else "")


def large(folder: Path | None) -> dict[str, Any]:
    """Sizes at which carrying J is too expensive: the compiled loop alone."""
    machine = {"cpus": os.cpu_count(), "load_at_start": os.getloadavg()[0]}
    rows = []
    with tempfile.TemporaryDirectory(prefix="raysweep-rules-", dir=folder) as place:
        for n, k, steps, seconds, mib in LARGE:
            print(f"n = {n}, k = {k} ...", file=sys.stderr, flush=True)
            part = Path(place) / f"{n}-{k}"
            part.mkdir()
            start_for(part, n, k, steps)
            child = Child(["--contender=compiled"], part, n, k)
            answer = child.ready if "problem" in child.ready else child.ask(steps)
            child.close()
            row = {
                "n": n,
                "k": k,
                "steps": steps,
                "most_s": seconds,
                "most_mib": mib,
                **answer,
                **answer.pop("details", {}),
            }
            if "wall_s" in row:
                row["met"] = bool(row["wall_s"] < seconds and row["peak_mib"] < mib)
            rows.append(row)
    return {"machine": machine | {"load_at_end": os.getloadavg()[0]}, "rows": rows}


def show_large(results: dict[str, Any]) -> None:
    """Print the large runs for people."""
    for row in results["rows"]:
        size = f"k = {row['k']}" if row["k"] < row["n"] else "full"
        most = f"< {row['most_s']:g} s, < {row['most_mib'] / 1024:g} GiB"
        aim = f"aim: n = {row['n']}, {size}, {row['steps']:,} steps {most}"
        if "problem" in row:
            print(f"{aim}: {row['problem']}")
            continue
        carried = 4 * row["n"] ** 2 * (row["n"] + 2) / 2**20
        print(
            f"{aim}: measured {row['wall_s']:,.1f} s ({row['cpu_s']:,.1f} s of CPU), peak {row['peak_mib']:,.0f} MiB "
            f"(one J: {carried:,.0f} MiB), {'met' if row['met'] else 'missed'};{depth(row)}"
        )
    machine = results["machine"]
    print(
        "Each in a process of its own, one thread, float32, imports and compilation not timed.\n"
        f"{machine['cpus']} CPUs; load average {machine['load_at_start']:.1f} at start, {machine['load_at_end']:.1f} "
        "at end."
    )


def main() -> int:
    """Compare; or, in a child process, be one contender."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="", help="hidden units, comma-separated (default: 64,128,256)")
    parser.add_argument("--quick", action="store_true", help="small sizes, few steps: whether it works at all")
    parser.add_argument("--rounds", type=int, help="runs of each contender (default: 3): more on a restless machine")
    parser.add_argument("--large", action="store_true", help="instead: n = 1024, k = 4 and n = 512 in full")
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--yardstick", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--contender", choices=[*CONTENDERS, "start"], help=argparse.SUPPRESS)
    for name in ("n", "k", "steps"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender == "start":
        write_start(options.folder, options.n, options.k, options.steps, options.yardstick)
        print("{}")
        return 0
    if options.contender is not None:
        return serve(options.contender, options.folder, options.n, options.k)
    if options.large:
        results = large(options.folder)
        print(json.dumps(results, indent=2)) if options.json else show_large(results)
        return 0
    sizes = [int(size) for size in (options.sizes or ("32" if options.quick else "64,128,256")).split(",")]
    if min(sizes) <= 4:
        parser.error(f"--sizes {options.sizes}: each must be more than 4, which is the ring's k")
    results = compare(sizes, options.quick, options.rounds or (2 if options.quick else 3), options.folder)
    print(json.dumps(results, indent=2)) if options.json else show(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
