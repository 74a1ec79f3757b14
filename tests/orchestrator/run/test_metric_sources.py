"""Metrics files and TensorBoard event files: what is read of them, the steps of curves, and what cannot be read."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from raysweep.orchestrator.run.context import RunContext
from raysweep.orchestrator.run.folder import CellFolder
from raysweep.orchestrator.run.programs.event_files import read_events
from raysweep.orchestrator.run.programs.metric_sources import NoMetrics, OutputMetrics, read_metrics
from raysweep.orchestrator.store.checkpoints import Checkpoint
from raysweep.orchestrator.sweep.programs.program import MetricSources, Pattern

Arrays = dict[str, list[tuple[int, int, list[float]]]]


def context_of(folder: Path) -> RunContext:
    return RunContext("cpu", Checkpoint(None, "", 1, ""), CellFolder(folder, "cell"))


def read(
    folder: Path, sources: MetricSources, *files: str, settings: tuple[str, ...] = ()
) -> tuple[dict[str, float | str | None], Arrays]:
    context = context_of(folder)
    metrics = read_metrics(sources, OutputMetrics(sources, context), folder, files, settings, context)
    arrays: Arrays = {}
    for name, step, stride, values in context.recorded:
        arrays.setdefault(name, []).append((step, stride, values.tolist()))
    return metrics, arrays


def read_file(folder: Path, name: str, text: str, step: str = "step") -> tuple[dict[str, float | str | None], Arrays]:
    (folder / name).write_text(text)
    return read(folder, MetricSources(json_lines=False, files=(name,), step=step, declared=True), name)


def test_a_table_gives_the_last_value_of_each_column_and_its_curve(tmp_path: Path) -> None:
    text = "# sb3\nepoch, loss ,val,note\n0,1.0,,a\n5,0.5,0.75,b\n10,0.25,,c\n"
    expected = ({"epoch": 10, "loss": 0.25, "val": 0.75}, {"loss": [(0, 5, [1, 0.5, 0.25])]})
    assert read_file(tmp_path, "log.csv", text, "epoch") == expected
    assert read_file(tmp_path, "log.tsv", text.replace(",", "\t"), "epoch") == expected
    lines = (
        '{"epoch": 0, "loss": 1}\n\n{"epoch": 5, "loss": 0.5, "val": 0.75}\n{"epoch": 10, "loss": 0.25, "note": null}\n'
    )
    assert read_file(tmp_path, "log.jsonl", lines, "epoch") == expected
    assert (
        read_file(tmp_path, "log.json", f"[{','.join(lines.split(chr(10))).strip(',').replace(',,', ',')}]", "epoch")
        == expected
    )


def test_objects_of_several_lines_and_python_dicts_are_read(tmp_path: Path) -> None:
    sources = MetricSources()
    context = context_of(tmp_path)
    output = OutputMetrics(sources, context)
    printed = json.dumps({"loss": 1.0, "test": {"acc": 0.5}}, indent=2)
    lines = ["{", "not json", "}", "{", *printed.splitlines(), "}", "{'loss': nothing}", "{'loss': 7} and more"]
    lines += [
        "{'loss': 0.5, 'test': {'name': \"it's\"}, 'at': (1, 2)}",
        "{__import__('os').getcwd()}",
        "  {'loss': 0.25}",
    ]
    for line in lines:
        output.stdout(line)
    metrics = read_metrics(sources, output, tmp_path, (), (), context)
    assert metrics == {"loss": 0.25, "test.acc": 0.5, "test.name": "it's"}
    (curve,) = (array for array in context.recorded if array.name == "loss")
    assert curve.values.tolist() == [1.0, 0.5, 0.25]


def test_a_table_may_be_separated_by_semicolons(tmp_path: Path) -> None:
    assert read_file(tmp_path, "log.csv", "epoch;loss\n0;1\n1;0.5\n", "epoch")[0] == {"epoch": 1, "loss": 0.5}


def test_text_is_a_metric_unless_the_name_has_numbers_or_is_a_setting(tmp_path: Path) -> None:
    sources = MetricSources()
    output = OutputMetrics(sources, context_of(tmp_path))
    for line in (
        '{"phase": "warm", "loss": 1, "x": 1, "optimizer": "adam"}', '{"phase": "hot", "loss": 2, "x": "text"}',
        f'{{"long": "{"x" * 10_001}"}}',
    ):  # fmt: skip
        output.stdout(line)
    metrics = read_metrics(sources, output, tmp_path, (), ("optimizer",), context_of(tmp_path))
    assert metrics == {"phase": "hot", "loss": 2, "x": 1}
    with pytest.raises(NoMetrics, match="has no number"):
        read_file(tmp_path, "m.json", '{"phase": "hot"}')


def test_an_object_may_hold_objects_and_curves(tmp_path: Path) -> None:
    text = '{"test": {"acc": 0.5, "ok": true}, "history": [3, 2, 1.5], "name": "x", "none": null}'
    metrics, arrays = read_file(tmp_path, "m.json", text)
    assert metrics == {"test.acc": 0.5, "test.ok": 1, "history": 1.5, "name": "x"}
    assert arrays == {"history": [(0, 1, [3, 2, 1.5])]}


def test_steps_place_a_curve_in_parts_of_equal_strides(tmp_path: Path) -> None:
    rows = "".join(f"{step},{step / 4}\n" for step in (0, 10, 20, 25, 30, 100))
    assert read_file(tmp_path, "a.csv", f"step,x\n{rows}")[1] == {
        "x": [(0, 10, [0, 2.5, 5]), (25, 5, [6.25, 7.5]), (100, 1, [25])]
    }
    restarted = "".join(f"{step},{step}\n" for step in (0, 10, 5, 10))
    assert read_file(tmp_path, "b.csv", f"step,x\n{restarted}")[1] == {"x": [(0, 5, [0, 5, 10])]}


def test_a_number_that_repeats_a_setting_is_no_metric_unless_a_pattern_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"lr": 0.1, "loss": 1}')
    sources = MetricSources(files=("m.json",), declared=True)
    assert read(tmp_path, sources, "m.json", settings=("lr",))[0] == {"loss": 1}
    pattern = MetricSources(patterns=(Pattern("lr", "(1)", "last"),), declared=True)
    output = OutputMetrics(pattern, context_of(tmp_path))
    output.stderr("1")
    assert read_metrics(pattern, output, tmp_path, (), ("lr",), context_of(tmp_path)) == {"lr": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.json", "{", "metrics.file: 'm.json' cannot be read: Expecting property name"),
        ("m.json", "[1]", "name it .jsonl if it has an object a line"),
        ("m.jsonl", '{"a": 1}\n{"a": ', "line 2: Expecting value"),
        ("m.csv", "a,b\nx,y\n", "'m.csv' has no number"),
        ("m.csv", "", "'m.csv' has no number"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, NoMetrics)) as caught:
        read_file(tmp_path, name, text)
    assert message in str(caught.value)


def test_a_pattern_of_files_must_match_one(tmp_path: Path) -> None:
    sources = MetricSources(files=("*.csv",), declared=True)
    (tmp_path / "a.csv").write_text("x\n1\n")
    assert read(tmp_path, sources, "*.csv")[0] == {"x": 1}
    (tmp_path / "b.csv").write_text("x\n1\n")
    with pytest.raises(NoMetrics, match="2 files match"):
        read(tmp_path, sources, "*.csv")


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def message(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def event(step: int, *values: bytes) -> bytes:
    data = (
        b"\x09"
        + struct.pack("<d", 1.0)
        + varint(2 << 3)
        + varint(step)
        + message(5, b"".join(message(1, v) for v in values))
    )
    return struct.pack("<Q", len(data)) + b"\0\0\0\0" + data + b"\0\0\0\0"


def scalar(tag: str, value: float) -> bytes:
    return message(1, tag.encode()) + varint(2 << 3 | 5) + struct.pack("<f", value)


def tensor(tag: str, value: float) -> bytes:
    return message(1, tag.encode()) + message(8, varint(1 << 3) + varint(1) + message(4, struct.pack("<f", value)))


def test_event_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    image = message(1, b"image") + message(4, b"png")
    head = struct.pack("<Q", 9) + b"\0\0\0\0" + b"\x09" + struct.pack("<d", 1.0) + b"\0\0\0\0"
    whole = head + event(0, scalar("loss", 1.0), image) + event(100, scalar("loss", 0.5), tensor("acc", 0.25))
    (tmp_path / "runs").mkdir()
    path = tmp_path / "runs" / "events.out.tfevents.1"
    path.write_bytes(whole + event(200, scalar("loss", 0.0))[:-6])
    sources = MetricSources(tensorboard=".", declared=True)
    assert read(tmp_path, sources) == ({"loss": 0.5, "acc": 0.25}, {"loss": [(0, 100, [1, 0.5])]})
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "events.out.tfevents.2").write_bytes(event(300, scalar("loss", 4.0)))
    assert read(tmp_path, sources)[0] == {"runs/loss": 0.5, "runs/acc": 0.25, "eval/loss": 4}


@pytest.mark.parametrize("size", range(0, 120, 7))
def test_damaged_event_files_end_early(size: int, tmp_path: Path) -> None:
    data = bytearray(event(1, scalar("loss", 1.0)) * 3)
    data[min(size, len(data) - 1)] ^= 0xFF
    (tmp_path / "x").write_bytes(data)
    assert len(list(read_events(tmp_path / "x"))) <= 3


def test_event_files_of_tensorboard_are_read(tmp_path: Path) -> None:
    writer = pytest.importorskip("torch.utils.tensorboard").SummaryWriter(str(tmp_path))
    for step in range(3):
        writer.add_scalar("train/loss", step / 4, 10 * step)
    writer.close()
    (path,) = tmp_path.iterdir()
    assert list(read_events(path)) == [("train/loss", 0, 0.0), ("train/loss", 10, 0.25), ("train/loss", 20, 0.5)]
