"""Recovery, spread and inference over seeds."""
