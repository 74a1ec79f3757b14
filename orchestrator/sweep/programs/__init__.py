"""Programs as cells: the keys that describe one, and the files that it needs."""
