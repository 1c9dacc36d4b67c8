"""A base on the Hugging Face hub, brought into the hub's own cache on this machine."""

import os
import re
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo

from tunesmith.errors import MachineError, ModelError
from tunesmith.models.refuse import check_names, check_settings

TIMEOUT_SECONDS = 8.0
"""How long the hub may take to answer before it counts as out of reach."""

ALLOW = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
IGNORE = ("*/*", "consolidated*", "README*")
"""Sub-folders and second copies of the weights are left on the hub."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch(repo: str, revision: str | None, endpoint: str | None = None) -> tuple[Path, str]:
    """Bring a hub id into the cache; what is there already is not brought again.

    Names and settings are checked before the weights are downloaded. Without a network, or with
    HF_HUB_OFFLINE set, what an earlier run left in the cache is used.

    Args:
        repo: Hub id such as `org/name`.
        revision: Commit, tag or branch; None for the main branch.
        endpoint: Address of the hub; None for HF_ENDPOINT or huggingface.co.

    Returns:
        The folder in the cache, and the commit it holds.

    Raises:
        ModelError: No such id or revision, no permission, or a base that is refused.
        MachineError: The hub is out of reach and the cache does not hold the base.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # for the processes we start
    constants.HF_HUB_DISABLE_TELEMETRY = True  # read from the environment on import, so too late
    if revision is not None and _COMMIT.fullmatch(revision):
        held = _cached(repo, revision)
        if held is not None:
            return held, held.name
    try:
        info = HfApi(endpoint, library_name="tunesmith").model_info(
            repo, revision=revision, timeout=TIMEOUT_SECONDS
        )
        check_names(f"hub id {repo}", [file.rfilename for file in info.siblings or []])
        return _download(repo, info, endpoint), str(info.sha)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise _not_there(repo, revision, error) from None
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HTTPError) as error:
        held = _cached(repo, revision)
        if held is not None:
            return held, held.name
        raise _out_of_reach(repo, endpoint, error) from None


def _download(repo: str, info: ModelInfo, endpoint: str | None) -> Path:
    settings = _snapshot(repo, info.sha, ("*.json",), endpoint)
    check_settings(settings)
    return _snapshot(repo, info.sha, ALLOW, endpoint)


def _snapshot(repo: str, commit: str | None, allow: tuple[str, ...], endpoint: str | None) -> Path:
    return Path(
        snapshot_download(
            repo,
            revision=commit,
            allow_patterns=list(allow),
            ignore_patterns=list(IGNORE),
            etag_timeout=TIMEOUT_SECONDS,
            endpoint=endpoint,
        )
    )


def _cached(repo: str, revision: str | None) -> Path | None:
    """The folder in the cache when it is whole, without any request."""
    try:
        found = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=list(ALLOW),
            ignore_patterns=list(IGNORE),
            local_files_only=True,
        )
    except LocalEntryNotFoundError:
        return None
    return Path(found)


def _not_there(repo: str, revision: str | None, error: HTTPError) -> ModelError:
    if isinstance(error, GatedRepoError):
        return ModelError(
            "model.base",
            got=f"{repo!r}, which the hub gives only to those who accepted its terms",
            hint="accept them on the model's page, then run: hf auth login",
        )
    if isinstance(error, RevisionNotFoundError):
        return ModelError(
            "model.revision",
            got=repr(revision),
            expected=f"a commit, tag or branch of {repo}",
            hint="leave model.revision out to take the main branch",
        )
    return ModelError(
        "model.base",
        got=f"{repo!r}; there is no such folder here, and no such public model on the hub",
        hint="check the spelling; for a private model run: hf auth login",
    )


def _out_of_reach(repo: str, endpoint: str | None, error: Exception) -> MachineError:
    host = (endpoint or constants.ENDPOINT).split("//")[-1]
    if isinstance(error, OfflineModeIsEnabled):
        reason = "HF_HUB_OFFLINE is set"
    else:
        reason = str(error).strip().split("\n")[0][:160] or type(error).__name__
    return MachineError(
        "model.base",
        got=f"hub id {repo!r}, which is not in the cache, and no answer from {host} ({reason})",
        expected="a network, or the model in the cache",
        hint="a local folder or .gguf file works without a network, and so does model.base=starter "
        "once it was made",
    )
