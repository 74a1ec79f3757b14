"""SQL queries over a store."""
