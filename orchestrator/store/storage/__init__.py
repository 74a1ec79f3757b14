"""Where a store's files lie: a folder or an object store."""
