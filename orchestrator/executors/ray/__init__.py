"""Chunks as Ray tasks. Only this folder imports Ray."""
