"""Neural recordings: prepared files, their preprocessing, pairs of sessions, and classical decoders."""
