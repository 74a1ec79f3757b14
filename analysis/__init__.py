"""From the store's frames to numbers: recovery, spread, tables.

Pure functions on Polars frames, nothing read or written but the paper's own numbers. Importing this
package loads nothing; each module imports Polars when it is needed itself.
"""
