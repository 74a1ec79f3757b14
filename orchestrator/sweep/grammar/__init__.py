"""The grammar of sweep files: keys, names and values of settings, blocks, and the expansion of blocks."""
