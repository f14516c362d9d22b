"""What is decided once about the servers of one machine and kept in their folder: ports, keys, databases, the store.

A stack is its folder (`servers/`): stack.json is what `ti up` finds again after a restart, env.sh is what a terminal
reads. It does not know how programs are started.
"""

import json
import os
import secrets
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ti_core.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost")
BUCKET = "words"
STACK = "stack.json"
"""Where a stack is kept in its folder."""
Port = Annotated[int, Field(ge=1024, le=50_000)]


class Options(BaseModel):
    """What a person may choose at `ti up`; kept, so that it is typed once."""

    model_config = ConfigDict(extra="forbid")

    store: str = Field(
        "", description="A store of your own, s3://bucket/prefix. Empty: PSEUDOWORD_STORE, or SeaweedFS is started."
    )
    source: str = Field(
        "", description="What the nightly batch trains: a prefix, folder or table. Empty: `pictures` in the bucket."
    )
    postgres: str = Field(
        "",
        description="postgresql://user:password@host, a server with the databases `mlflow` and `prefect`. Empty: "
        "SQLite, for one GPU worker.",
    )
    workers: int = Field(0, ge=0, le=64, description="GPU workers. 0: one for each card, one alone on SQLite.")
    s3_port: Port = Field(8333, description="Port of SeaweedFS; its parts take the four that follow.")
    mlflow_port: Port = Field(5000, description="Port of MLflow.")
    prefect_port: Port = Field(4200, description="Port of Prefect.")
    host: str = Field(
        "127.0.0.1", min_length=1, description="Where MLflow and Prefect listen; another than loopback needs --auth."
    )
    auth: bool = Field(False, description="MLflow and Prefect ask for a password (written to env.sh).")
    alerts: str = Field(
        "",
        description="A notification block of Prefect that hears of failed runs, of rejected and undecided words and "
        "of those that await approval, slack-webhook/words say. Empty: none.",
    )


REGISTERED = {"source", "alerts"}
"""What concerns no program: Prefect is told anew while everything runs."""


SEAWEED = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"),
    ("PSEUDOWORD_S3_ENDPOINT_URL", "PSEUDOWORD_S3_ADDRESSING"),
)
"""How SeaweedFS is reached: the first of each says whose the others are."""


class Stack(Options):
    """The options with what is made at the first start."""

    access_key: str = Field(default_factory=lambda: secrets.token_hex(8))
    secret_key: str = Field(default_factory=lambda: secrets.token_hex(24))
    reader_access_key: str = Field(default_factory=lambda: secrets.token_hex(8))
    reader_secret_key: str = Field(default_factory=lambda: secrets.token_hex(24))
    password: str = Field(default_factory=lambda: secrets.token_hex(16))
    s3: dict[str, str] = {}
    """PSEUDOWORD_S3_… of a store of one's own."""

    @property
    def own_store(self) -> bool:
        """Whether SeaweedFS is started here."""
        return not self.store

    @property
    def s3_url(self) -> str:
        """Where SeaweedFS answers: on loopback whatever the host, for its inner ports know no password."""
        return f"http://127.0.0.1:{self.s3_port}"

    @property
    def mlflow_url(self) -> str:
        """Where MLflow answers on this machine."""
        return f"http://{self._near}:{self.mlflow_port}"

    @property
    def prefect_url(self) -> str:
        """Where Prefect answers on this machine, without `/api`."""
        return f"http://{self._near}:{self.prefect_port}"

    @property
    def _near(self) -> str:
        return "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 (compared, not bound)

    @property
    def pictures(self) -> str:
        """What the nightly batch trains."""
        return self.source or f"s3://{self.bucket}/pictures"

    @property
    def bucket(self) -> str:
        """Of the store; pictures lie beside it."""
        return self.store.removeprefix("s3://").partition("/")[0] if self.store else BUCKET

    def environment(self, home: Path) -> dict[str, str]:
        """What a process needs to find the stack in `home`: workers and `ti` in a terminal alike."""
        found = {
            "PSEUDOWORD_STORE": self.store or f"s3://{BUCKET}/store",
            "PSEUDOWORD_PICTURES": f"s3://{self.bucket}/pictures",
            "PSEUDOWORD_INBOX": f"s3://{self.bucket}/inbox",
            "PSEUDOWORD_TRACKING_URI": self.mlflow_url,
            "PSEUDOWORD_HOME": str(home / "worker"),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "true",  # the one word that MLflow accepts
        } | self.s3
        if self.own_store:
            found |= self.key(self.access_key, self.secret_key)
        if self.auth:
            found |= {
                "PREFECT_API_AUTH_STRING": f"{BUCKET}:{self.password}",
                "MLFLOW_TRACKING_USERNAME": BUCKET,
                "MLFLOW_TRACKING_PASSWORD": self.password,
            }
        return found

    def left_behind(self, environment: Mapping[str, str]) -> set[str]:
        """The variables by which an earlier env.sh of this stack led to SeaweedFS, where the store is one's own now."""
        if self.own_store:
            return set()
        ours = self.key(self.access_key, self.secret_key)
        stale = (names for names in SEAWEED if environment.get(names[0]) == ours[names[0]])
        return {name for names in stale for name in names if name in environment}

    def key(self, access_key: str, secret_key: str) -> dict[str, str]:
        """What a reader or writer of SeaweedFS has in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PSEUDOWORD_S3_ENDPOINT_URL": self.s3_url,
            "PSEUDOWORD_S3_ADDRESSING": "path",
        }


def kept(home: Path) -> Stack | None:
    """The stack that lies in `home`, or None. Raises InputError when it is damaged."""
    file = home / STACK
    try:
        return Stack.model_validate_json(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        reason = getattr(error, "strerror", None) or "it is no stack of this version"
        raise InputError(
            f"{file} cannot be read ({reason}): mend it, or start in another folder with --home."
        ) from None


def decided(before: Stack | None, asked: Options) -> Stack:
    """The stack with what was typed (set in `asked`); at the first start a store is taken from the environment too.

    Raises InputError for options that no stack can have together.
    """
    first = Stack(store=os.environ.get("PSEUDOWORD_STORE", ""))
    stack = (before or first).model_copy(update=asked.model_dump(exclude_unset=True))
    if stack.store and not stack.store.startswith("s3://"):
        raise InputError(
            f"The store {stack.store} is no bucket: name one as s3://bucket/prefix, or none to start SeaweedFS."
        )
    if before is None or stack.store != before.store:
        s3 = {name for name in os.environ if name.startswith("PSEUDOWORD_S3_")} - stack.left_behind(os.environ)
        stack.s3 = {name: os.environ[name] for name in s3} if stack.store else {}
    if stack.host not in LOOPBACK and not stack.auth:
        raise InputError(
            f"On {stack.host} anybody in the network could start runs and change what readers get: add --auth, and put "
            "a proxy with TLS in front, or leave --host out."
        )
    if stack.workers > 1 and not stack.postgres:
        raise InputError(
            f"{stack.workers} GPU workers need PostgreSQL (--postgres URL): SQLite loses events under several writers."
        )
    if stack.postgres and (not stack.postgres.startswith("postgresql://") or '"' in stack.postgres):
        raise InputError("--postgres is no URL of PostgreSQL: write postgresql://user:password@host.")
    return stack


def keep(stack: Stack, home: Path) -> None:
    """Write stack.json, env.sh, and reader.env with a key that may only read; only their owner reads them."""
    private(home / STACK, stack.model_dump_json(indent=1) + "\n")
    values = {name: str(value) for name, value in stack.environment(home).items()}
    private(home / "env.sh", ("" if stack.own_store else _forget(stack)) + _shell(values))
    if stack.own_store:
        reader = stack.key(stack.reader_access_key, stack.reader_secret_key)
        private(home / "reader.env", _shell({"PSEUDOWORD_STORE": f"s3://{BUCKET}/store"} | reader))
        private(home / "s3.json", json.dumps(_identities(stack), indent=1))
    else:
        (home / "reader.env").unlink(missing_ok=True)


def _forget(stack: Stack) -> str:
    """For a terminal that knows SeaweedFS from an earlier env.sh."""
    ours = stack.key(stack.access_key, stack.secret_key)
    return "".join(f'[ "${{{one}-}}" != {ours[one]} ] || unset {one} {" ".join(more)}\n' for one, *more in SEAWEED)


def _shell(values: dict[str, str]) -> str:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    programs = shlex.quote(str(Path(sys.executable).parent))
    return "\n".join([f'case ":$PATH:" in *:{programs}:*) ;; *) export PATH={programs}:"$PATH" ;; esac', *lines, ""])


def _identities(stack: Stack) -> dict[str, Any]:
    """SeaweedFS's accounts: the line's own, and one for readers."""

    def identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, Any]:
        return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}

    return {
        "identities": [
            identity("line", stack.access_key, stack.secret_key, ["Admin", "Read", "List", "Tagging", "Write"]),
            identity("reader", stack.reader_access_key, stack.reader_secret_key, [f"Read:{BUCKET}", f"List:{BUCKET}"]),
        ]
    }


def private(file: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    with open(temporary, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        out.write(text)
    temporary.replace(file)
