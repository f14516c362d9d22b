"""Models by hub name, `owner/model` or `owner/model@revision`: what the hub's cache holds, and what is still to come.

The cache comes first and is taken as it is: a repository that moves on changes nothing here until a revision of it is
named, and a machine without a network needs nothing else. This module knows no models.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ti_core.errors import InputError

_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


class UnreachableError(InputError):
    """The hub did not answer, or did not give what was asked for."""


@dataclass(frozen=True)
class HubName:
    """A repository, and the branch, tag or commit of it; "" stands for the main branch."""

    repository: str
    revision: str

    def cached(self, files: Sequence[str]) -> Path | None:
        """The folder of the snapshot in the cache if it holds these files, else None. Asks no server."""
        from huggingface_hub import snapshot_download

        wanted, revision = list(files), self.revision or None
        try:
            found = snapshot_download(self.repository, revision=revision, allow_patterns=wanted, local_files_only=True)
        except _failures():
            return None
        return Path(found) if all((Path(found) / file).exists() for file in wanted) else None

    def download(self, patterns: list[str]) -> Path:
        """Bring the files of these patterns into the cache; returns the snapshot's folder.

        Raises UnreachableError when the hub cannot be reached or does not give them.
        """
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.repository, revision=self.revision or None, allow_patterns=patterns))
        except _failures() as error:
            raise self._unreachable(error) from None

    def listing(self) -> list[str]:
        """Paths of all files of the repository. Raises UnreachableError when the hub cannot be reached."""
        from huggingface_hub import HfApi

        try:
            return HfApi().list_repo_files(self.repository, revision=self.revision or None)
        except _failures() as error:
            raise self._unreachable(error) from None

    def described(self) -> tuple[str, dict[str, int]]:
        """diffusers' class of the repository ("" if it has none), and its files with their bytes. Brings nothing.

        Raises UnreachableError when the hub cannot be reached.
        """
        from huggingface_hub import HfApi

        try:
            told = HfApi().model_info(self.repository, revision=self.revision or None, files_metadata=True)
        except _failures() as error:
            raise self._unreachable(error) from None
        pipeline = ((told.config or {}).get("diffusers") or {}).get("_class_name") or ""
        return pipeline, {one.rfilename: one.size or 0 for one in told.siblings or ()}

    def _unreachable(self, error: Exception) -> UnreachableError:
        whole = f"{self.repository}@{self.revision}" if self.revision else self.repository
        return UnreachableError(
            f"The model {whole} is neither a folder here nor to be had from the hub ({_reason(error)})."
        )


def hub_name(name: str) -> HubName | None:
    """`name` as a hub name; None where it is none."""
    found = _NAME.fullmatch(name)
    return HubName(found[1], found[2] or "") if found and not name.startswith(".") else None


def _failures() -> tuple[type[Exception], ...]:
    """What the hub's client raises when it does not get what it asks for: errors of its own, and its HTTP library's,
    of which some are no OSError. Which library that is has changed; the client's error is made of its base class."""
    from huggingface_hub.errors import HfHubHTTPError

    return OSError, ValueError, HfHubHTTPError.__bases__[0]


def _reason(error: Exception) -> str:
    """What a person can mend, for the errors that have a name of their own."""
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    reasons = {
        GatedRepoError: "its licence is to be accepted on its page, and HF_TOKEN set to a token of that account",
        RevisionNotFoundError: "it has no such revision",
        RepositoryNotFoundError: "no such repository, or a private one: check the name, or set HF_TOKEN",
        OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, and its cache does not hold it",
    }
    causes = (error, error.__cause__)
    return next(
        (text for kind, text in reasons.items() if any(isinstance(one, kind) for one in causes)), type(error).__name__
    )
