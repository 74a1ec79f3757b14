"""Terminal input and output of all commands: results, progress, prompts and streams."""
