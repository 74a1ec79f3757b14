"""Build step that bundles the charts' JavaScript into the package, so that users need not install its generator."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

BUNDLE = Path(__file__).resolve().parent / "src" / "raysweep" / "analysis" / "report" / "vega.js"
GENERATOR = "vl-convert-python"


class BuildWithCharts(build_py):
    """Bundles Vega, Vega-Lite and Vega-Embed (BSD-3-Clause) in one file, unless it is there from this generator."""

    def run(self) -> None:
        """Write the bundle, then build as usual."""
        import vl_convert

        head = f"// Vega, Vega-Lite and Vega-Embed (BSD-3-Clause), bundled by {GENERATOR} {version(GENERATOR)}\n"
        if not BUNDLE.is_file() or not BUNDLE.read_text(encoding="utf-8").startswith(head):
            BUNDLE.write_text(head + vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"), encoding="utf-8")
        super().run()


setup(cmdclass={"build_py": BuildWithCharts})
