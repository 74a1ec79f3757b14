"""Code for cells that run a program: the program's process, metrics and checkpoint folder."""
