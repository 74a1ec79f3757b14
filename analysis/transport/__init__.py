"""Experiments A to D of `docs/transport.md`: when is propagating k paths worth its cost?"""
