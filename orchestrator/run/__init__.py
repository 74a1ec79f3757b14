"""Code that runs on a worker. It runs the cells of a chunk one after another."""
