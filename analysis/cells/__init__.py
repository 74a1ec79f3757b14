"""The cells that tables, figures and claims are made of."""
