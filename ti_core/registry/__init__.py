"""The registry: MLflow mirrors what the store decides. Nothing outside this package knows MLflow."""

from ti_core.registry.curves import Curves, drain_curves
from ti_core.registry.tracking import Registry

__all__ = ["Curves", "Registry", "drain_curves"]
