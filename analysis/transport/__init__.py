"""Experiments A to C of `docs/transport.md`: when is propagating k paths worth its cost?"""
