"""What the commands share: printed output, progress, prompts and streams."""
