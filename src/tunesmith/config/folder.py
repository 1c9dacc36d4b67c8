"""A folder whose files are the choices: methods, adapters, graders, probes, row shapes.

Adding a choice is adding a file; the key in the recipe is the file's name. Only names found in the
folder are ever imported, so a recipe cannot name other code. What several choices share lies in a
folder inside, which is no choice itself.
"""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from tunesmith.config.check import choose


def names(package: ModuleType) -> list[str]:
    """The choices in `package`: its files, without `base` and those with a leading underscore."""
    found = (module.name for module in iter_modules(package.__path__) if not module.ispkg)
    return sorted(name for name in found if name != "base" and not name.startswith("_"))


def load(package: ModuleType, name: str, key: str) -> ModuleType:
    """Import the file `name` of `package`.

    Args:
        package: The folder.
        name: The choice, as the user wrote it.
        key: The recipe key, for the message.

    Raises:
        RecipeError: `name` is none of the choices; the message lists them.
    """
    return import_module(f"{package.__name__}.{choose(name, names(package), key)}")
