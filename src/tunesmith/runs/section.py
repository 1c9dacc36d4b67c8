"""The recipe's `output` section."""

from tunesmith.config.section import Section


class OutputSection(Section):
    """Where a run leaves its folder."""

    dir: str | None = None
    """The run folder; left out, runs/ and the name of the recipe file."""
