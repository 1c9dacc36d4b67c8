"""Keys that adapters share, with what documents say of them."""

from typing import Annotated, Literal

from pydantic import Field

Targets = Annotated[
    Literal["auto"] | list[str],
    Field(
        description="auto: every linear layer of the blocks; or last name parts, such as "
        "[q_proj, v_proj]."
    ),
]
"""Which linear layers are adapted."""

From = Annotated[
    str | None,
    Field(alias="from", description="Run or adapter folder whose adapter is trained on."),
]
"""What an adapter begins as; None is its usual start."""
