"""The results store: Parquet segments, one writer, many readers."""
