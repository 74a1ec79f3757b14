"""Files and metrics of single cells on the report's page."""

from __future__ import annotations

import base64
import json
import re

from raysweep import Store, launch
from raysweep.analysis.report import build
from raysweep.analysis.report.cell_details import MAX_IMAGE
from raysweep.analysis.report.html import to_html
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
