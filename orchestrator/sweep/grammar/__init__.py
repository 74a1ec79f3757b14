"""The grammar of sweep files: keys, settings, blocks, and the settings that a block stands for."""
