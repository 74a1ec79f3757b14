"""Neural recordings: prepared files, what makes them a decoder's data, and the decoders in use for them."""
