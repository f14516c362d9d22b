"""Letting the tracking server follow what the store has decided, for whoever has just decided something. One that is
silent, or not installed, hears of it at a later run: what it is to hear stays in the store."""

import logging
from typing import TYPE_CHECKING

from ti_core.errors import ServiceError
from ti_core.settings import Settings
from ti_core.store import Store

if TYPE_CHECKING:
    from ti_core.registry import Registry

log = logging.getLogger(__name__)


def tell(settings: Settings, store: Store, registry: "Registry | None" = None) -> None:
    """Tell the tracking server what lies in the store's outbox."""
    from ti_core.publishing.mirroring import drain

    try:
        if registry is None:
            from ti_core.registry import Registry

            registry = Registry(settings)
        drain(store, registry)
    except (ModuleNotFoundError, ServiceError) as error:
        log.warning("%s The tracking server is told at a later run.", error)
