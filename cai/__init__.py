"""The method of Constitutional AI: chains, labels, losses, evaluation. Imports neither Prefect nor storage."""

__version__ = "0.1.0"
