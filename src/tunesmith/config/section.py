"""The base of every recipe section."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of a recipe: frozen, and a key that it does not know is an error.

    A string literal under a field is its description in the JSON Schema, the docs and the forms.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
        # A key may be a word that Python keeps for itself, such as `from`.
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
    )
