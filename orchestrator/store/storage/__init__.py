"""Storage backends of a store: a folder or an object store."""
