"""Where things are: data folder, store, tracking server, base model, judge, allowed folders.

Everything comes from the environment (`PSEUDOWORD_…`); nothing here is a run's own choice. Credentials are not
settings: boto3, MLflow and Prefect read their own from the environment or from Prefect blocks.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ti_core.config import Precision, check_slug
from ti_core.errors import InputError


class Settings(BaseSettings):
    """Settings of one process. Build it with `load_settings()`, which words errors for people."""

    model_config = SettingsConfigDict(env_prefix="PSEUDOWORD_", env_ignore_empty=True, frozen=True)

    home: Path = Path("pseudoword-data")
    """Data folder of the embedded default: store, tracking database, caches, pages. Also the working folder of runs."""
    store: str = ""
    """Object store: a folder, s3://bucket/prefix, or an http(s) address to read from. Empty means `<home>/store`."""
    pictures: str = ""
    """Where `ti upload` puts pictures: a folder or s3://bucket/prefix. Empty means `pictures` in the store. That
    of a namespace is `<place>-<namespace>`."""
    inbox: str = ""
    """Where folders that are dropped start runs by themselves: a folder or s3://bucket/prefix. Empty means `inbox` in
    the store."""
    namespace: str = ""
    """Name of a team: its words, runs, models and pages never meet those of another in the same store, tracking server
    and data folder. Empty: no namespace, which is one of its own."""
    tracking_uri: str = ""
    """MLflow tracking and registry server. Empty means a SQLite file in `home`."""
    experiment: str = "pseudoword"
    """MLflow experiment the runs go to; those of a namespace go to `<experiment>/<namespace>`."""
    base_model: str = "miniature"
    """Base model where a run names none: `miniature`, a diffusers folder, a .safetensors file or a hub name."""
    clip: str = ""
    """Judge: a folder in open_clip's local-dir layout, or `ARCHITECTURE/PRETRAINED`. Empty: the base model's own."""
    dino: str = ""
    """Second opinion on likeness: a folder with a vision transformer as transformers keeps it (DINO ViT-S/16, say), or
    its hub name. Empty: none. No rule reads it."""
    device: str = ""
    """torch device. Empty means cuda where there is one, else Apple's mps, else cpu."""
    precision: Precision = ""
    """Number type of the U-Net. Empty means bf16 where the card computes in it, fp16 on other CUDA cards with fast
    fp16, else fp32. Text encoders, VAE and the new vectors are always fp32."""
    allowed_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders that pictures may be read from, separated by ':'. Empty means the working folder and the user's home."""
    s3_endpoint_url: str = ""
    """Endpoint of an S3-compatible store. Empty means AWS (or what AWS_ENDPOINT_URL says)."""
    s3_addressing: Literal["auto", "path", "virtual"] = "auto"
    """Bucket addressing; most self-hosted stores need `path`."""
    s3_checksums: Literal["when_supported", "when_required"] = "when_supported"
    """boto3's request checksums; some compatible stores need `when_required`."""
    max_picture_pixels: int = Field(default=100_000_000, gt=0)
    """A picture with more pixels (width × height) is refused unread."""

    picture_plugins: Annotated[tuple[str, ...], NoDecode] = ()
    """Python modules, separated by ',', that teach Pillow further forms when they are imported (`pillow_jxl`, say)."""
    keep_originals: bool = False
    """Whether the store keeps the picture files too, unchanged, with all that cameras write into them. Otherwise it
    keeps what training sees, which carries no metadata."""
    price_per_hour: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """What an hour of the machine that trains costs, in any currency: each word is then told with its cost. 0: none."""
    open_packs: int = Field(default=64, gt=0)
    """Packs of a batch that wait for a worker or are run at the same time. A few more than there are workers are
    enough; each that waits costs Prefect's server at each poll of each worker (docs/scale.md)."""
    private_addresses: bool = False
    """Whether pictures may come from addresses within one's own network."""

    @field_validator("home")
    @classmethod
    def _expanded(cls, value: Path) -> Path:
        try:
            return expanded(value)
        except InputError as error:
            raise ValueError(str(error).rstrip(".")) from None

    @field_validator("namespace")
    @classmethod
    def _is_a_name(cls, value: str, info: ValidationInfo) -> str:
        try:
            name = check_slug(value) if value else value
        except InputError:
            raise ValueError("use lower-case letters, digits and single hyphens, for example team-a") from None
        for place in ("pictures", "inbox"):
            said = str(info.data.get(place, "")).rstrip("/")
            if name and re.fullmatch(r"s3://[^/]+", said):
                raise ValueError(
                    f"PSEUDOWORD_{place.upper()} names a whole bucket, {said}, beside which a team has no place of its "
                    f"own: name a prefix, {said}/{place}"
                )
        return name

    @field_validator("picture_plugins", mode="before")
    @classmethod
    def _split_plugins(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("allowed_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return tuple(Path(part) for part in value.split(":") if part) if isinstance(value, str) else value

    @cached_property
    def store_root(self) -> str:
        """The store's URI or folder with the default filled in: of all namespaces."""
        return self.store or str(self.home.absolute() / "store")

    @cached_property
    def store_uri(self) -> str:
        """The URI or folder of this namespace's store."""
        return f"{self.store_root.rstrip('/')}/namespaces/{self.namespace}" if self.namespace else self.store_root

    @cached_property
    def shown_in(self) -> Path:
        """The folder for this namespace's pages and copies of words; caches, which know no names, are shared."""
        return self.home / "namespaces" / self.namespace if self.namespace else self.home

    @cached_property
    def mlflow_experiment(self) -> str:
        """The experiment of this namespace."""
        return f"{self.experiment}/{self.namespace}" if self.namespace else self.experiment

    @cached_property
    def pictures_uri(self) -> str:
        """Where uploaded pictures lie, with the default filled in."""
        return self._of_team(self.pictures) or f"{self.store_uri}/pictures"

    @cached_property
    def inbox_uri(self) -> str:
        """Where dropped folders lie, with the default filled in."""
        return self._of_team(self.inbox) or f"{self.store_uri}/inbox"

    def _of_team(self, place: str) -> str:
        """A place of this namespace beside one that is named for all. Not within it: there it would be a concept."""
        return "-".join(part for part in (place.rstrip("/"), self.namespace) if part) if place else ""

    @cached_property
    def mlflow_uri(self) -> str:
        """The tracking URI with the default filled in."""
        return self.tracking_uri or f"sqlite:///{sqlite_path(self.home.absolute() / 'mlflow.db')}"

    @cached_property
    def roots(self) -> tuple[Path, ...]:
        """The resolved folders that pictures may be read from."""
        return tuple(expanded(root).resolve() for root in self.allowed_roots or (Path.cwd(), Path.home()))

    @cached_property
    def _brought(self) -> tuple[Path, ...]:
        """The resolved folders that pictures are brought to, where they are folders."""
        places = (self.pictures_uri, self.inbox_uri)
        return tuple(expanded(place).resolve() for place in places if "://" not in place)

    def allowed(self, path: Path) -> Path:
        """Return `path` resolved, links followed.

        Raises InputError when it lies outside the allowed folders, which are also those that pictures are brought to.
        """
        try:
            resolved = expanded(path).resolve()
        except (RuntimeError, ValueError, OSError) as error:  # a loop of links, a name with a NUL
            raise InputError(f"{path} cannot be found ({error}): check how it is written.") from None
        if any(resolved.is_relative_to(root) for root in (*self.roots, *self._brought)):
            return resolved
        roots = ", ".join(str(root) for root in self.roots)
        raise InputError(
            f"{path} lies outside the folders that may be read ({roots}): move it there, or name its folder in "
            "PSEUDOWORD_ALLOWED_ROOTS."
        )

    def check_place(self, name: str, own: str) -> None:
        """Raise InputError where a run names a model or judge by a path outside the allowed folders: it may name its
        own, but not look through the worker's disk. The `own` setting of the worker may lie anywhere."""
        path = expanded(name)
        if name and name != own and (path.is_absolute() or path.exists()):
            place = self.allowed(path)
            if place.is_file():
                self.allowed(place.with_suffix(""))  # a single file's configuration lies beside it


def expanded(path: Path | str) -> Path:
    """A path whose ~ stands for the home folder. Raises InputError where that of an unknown user is meant."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path} cannot be found ({error}): check how it is written.") from None


def sqlite_path(path: Path) -> str:
    """`path` as a database URI spells it. SQLAlchemy ends the path at a question mark and decodes what follows a
    percent sign; every other character stands for itself."""
    return str(path).replace("%", "%25").replace("?", "%3F")


@contextmanager
def starting(home: Path) -> Iterator[None]:
    """Make `home` and hold it for the body of the `with`: one process at a time creates or migrates a database there.

    Neither Prefect nor MLflow expects company while it makes its tables. A process that dies lets go by itself.
    Raises InputError when `home` cannot be made or written.
    """
    import fcntl  # not on Windows, where a client reads its settings too

    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / ".starting").open("a")
    except OSError as error:
        raise InputError(f"The data folder {home} cannot be made or written: {error.strerror}.") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def load_settings() -> Settings:
    """Read the settings from the environment. Raises InputError naming the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = "PSEUDOWORD_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InputError(f"{variable} is {first['input']!r}: {first['msg'].removeprefix('Value error, ')}.") from None
