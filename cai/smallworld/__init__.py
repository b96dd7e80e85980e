"""A built-in world in which truth is known, and a small language model that lives there."""
