"""Selection of a store's cells for tables, figures and claims."""
