"""Cells that are runs of a program: its process, its metrics and its checkpoint folder."""
