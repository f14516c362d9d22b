"""Pseudoword's library: everything that works without an orchestrator. It knows no Prefect."""

__version__ = "0.2.0.dev0"
