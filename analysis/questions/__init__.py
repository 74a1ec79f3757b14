"""Questions about the cells of a store: which setting is best, whether one is better than another, and by how much."""
