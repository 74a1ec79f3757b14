"""Where results are kept: Parquet segments, one writer, many readers."""
