"""The results store: Parquet files (segments), with one writer and many readers."""
