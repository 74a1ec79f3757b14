"""Files and metrics of single cells on the report's page."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

from raysweep import Store, launch
from raysweep.analysis.report import build
from raysweep.analysis.report.cell_details import MAX_IMAGE
from raysweep.analysis.report.html import to_html
from raysweep.analysis.statistics.shares import share_interval
from tests.orchestrator.sweeps import sweep_of

PICTURES = """
    def run(cell, context):
        (context.folder / "small.png").write_bytes(b"a picture")
        (context.folder / "large.png").write_bytes(bytes(200_000))
        (context.folder / "page.svg").write_text("<svg onload='alert(1)'/>")
        return {"loss": float("nan"), "accuracy": 0.5}
"""


def test_small_images_are_shown_and_nan_is_no_invalid_json(write) -> None:
    write("pictures.py", PICTURES)
    launch(sweep_of("pictures:run", 'nan = "keep"'), inline=True)
    page = to_html(build.build(Store()))
    documents = [
        json.loads(text, parse_constant=lambda name: 1 / 0)
        for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    ]
    (cell,) = next(document["cells"] for document in documents if "cells" in document)
    assert cell["files"] == "large.png, page.svg, small.png"
    (image,) = cell["images"]
    assert image == {"path": "small.png", "src": f"data:image/png;base64,{base64.b64encode(b'a picture').decode()}"}
    assert sorted(map(str, cell["metrics"].values())) == ["0.5", "nan"]
    assert MAX_IMAGE < 200_000


VERDICTS = """
    def run(cell, context):
        verdict = ["<b>odd</b>", "converged", "converged"][cell.seed % 3]
        return {
            "verdict": verdict, "ok": verdict == "converged", "library": "one", "mixed": cell.seed or "zero",
            "name": f"{cell.method}-{cell.seed}", "status": "fine" if cell.seed else "bad", "loss": 0.5 + cell.seed,
        }
"""


def test_text_metrics_and_truth_values_are_counted(write, cli) -> None:
    write("verdicts.py", VERDICTS)
    launch(sweep_of("verdicts:run", seeds='"0..5"', methods=["a", "b"]), inline=True)
    report = build.build(Store())
    (experiment,) = report.experiments
    rows = {text.name: text.rows.rows() for text in experiment.texts.tables}
    assert rows["verdict"] == [(0, 6, "converged 4, <b>odd</b> 2", 6), (1, 6, "converged 4, <b>odd</b> 2", 6)]
    assert rows["name"][1] == (1, 6, "b-0 1, b-1 1, b-2 1, b-3 1, b-4 1, 1 other values", 6)
    assert experiment.texts.same == {"library": "one", "mixed": "zero"}
    assert experiment.text_column_of["status"] == "text_status"
    (same,) = [value for name, value in experiment.metrics.same.items() if name == "ok"]
    assert same == 4 / 6
    page = to_html(report)
    assert "converged 4, &lt;b&gt;odd&lt;/b&gt; 2" in page
    assert "<b>odd" not in page
    assert "mixed zero" in page
    chosen = cli("report", "--metric", "verdict", "--metric", "ok", "--markdown", "report.md")
    assert chosen.returncode == 0, chosen.stderr
    text = Path("report.md").read_text(encoding="utf-8")
    assert "| a | converged 4, &lt;b&gt;odd&lt;/b&gt; 2 | 6 |" in text
    low, high = share_interval(4, 6)  # no end beyond 1
    assert f"| a | 0.6667 \\[{low:.4g}, {high:.4g}\\] |" in text
    query = next(line for line in text.splitlines() if "AND verdict IS NOT NULL" in line)
    sql = query.partition('"')[2].rpartition('"')[0]
    assert cli("query", sql, "--format", "csv").stdout.count("converged") == 2
