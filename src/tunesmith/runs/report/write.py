"""Leaves `report.md` and `report.html` in a run folder."""

from tunesmith.runs.durable import write_durably
from tunesmith.runs.folder import RunFolder
from tunesmith.runs.report import markdown, page
from tunesmith.runs.report.material import Material


def write(folder: RunFolder) -> None:
    """Renders `report.json`, `events.jsonl`, `samples.json` and `lock.json` for people.

    Raises:
        CommandError: One of these files is damaged.
        MachineError: The disk refused; reports that were there before are untouched.
    """
    material = Material.read(folder)
    for path, text in (
        (folder.report_md, markdown.render(material)),
        (folder.report_html, page.render(material)),
    ):
        # A lone surrogate, which JSON can hold and UTF-8 cannot, becomes its escape.
        write_durably(path, text.encode("utf-8", "backslashreplace"))
