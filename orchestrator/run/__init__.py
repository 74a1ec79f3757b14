"""Code that runs on a worker: a chunk of cells, one after another."""
