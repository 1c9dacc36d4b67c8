"""What the package never does: run what came with data or with a model."""

import ast
from collections.abc import Iterator

import pytest

from tunesmith.testing.source import Module, package_modules

MODULES_NEVER = {
    "pickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "telnetlib",
    "jsonpickle",
    "xmlrpc",
}
BUILTINS_NEVER = {"eval", "exec", "compile", "__import__"}
CALLS_NEVER = {
    "torch.load",
    "torch.hub.load",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
    "tempfile.mktemp",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "torch.save",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "numpy.lib.format.read_array",
    "pandas.read_pickle",
    "yaml.Loader",
    "yaml.FullLoader",
    "yaml.UnsafeLoader",
    "jinja2.Environment",
    "jinja2.Template",
    "jinja2.environment.Environment",
    "jinja2.sandbox.SandboxedEnvironment",
    "shutil.unpack_archive",
    "tarfile.open",
    "runpy.run_path",
    "runpy.run_module",
}
"""Called or imported. Templates are rendered with ImmutableSandboxedEnvironment alone."""
METHODS_NEVER = {"apply_chat_template", "extractall", "load_module"}
"""Of any object. Chat templates are rendered by `data/sandbox.py`, in a process of their own."""
RUNS_CODE = {
    "evaluate/sandbox/inside.py": "behind walls: the grader of a user",
    "evaluate/sandbox/run_tests.py": "behind walls: programs of models, and their tests",
}
"""File -> why it may `exec` and `compile`: both are started by `evaluate/sandbox/box.py` alone."""
TRUE_NEVER = {"trust_remote_code", "shell", "allow_pickle"}
FALSE_NEVER = {"weights_only", "use_safetensors", "safe_serialization", "verify"}


def dangers(module: Module) -> Iterator[str]:
    """Each forbidden import, call and argument of a file, as `file:line: what`."""
    origins = _origins(module.tree)
    for line, name in module.imports():
        parts = name.split(".")
        if parts[0] in MODULES_NEVER or name in CALLS_NEVER:
            yield f"{module.path}:{line}: import {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and not _runs_code(module, node):
            yield from (f"{module.path}:{node.lineno}: {what}" for what in _calls(node, origins))
        elif isinstance(node, ast.Dict):
            yield from (f"{module.path}:{node.lineno}: {what}" for what in _literals(node))


def _runs_code(module: Module, node: ast.Call) -> bool:
    return module.path in RUNS_CODE and _dotted(node.func) in ("exec", "compile")


def _calls(node: ast.Call, origins: dict[str, str]) -> Iterator[str]:
    name = _dotted(node.func)
    first, _, rest = name.partition(".")
    full = f"{origins.get(first, first)}{'.' if rest else ''}{rest}"
    if full in BUILTINS_NEVER or full in CALLS_NEVER:
        yield f"{full}()"
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS_NEVER:
        yield f".{node.func.attr}()"
    for keyword in node.keywords:
        if keyword.arg is not None and _is_wrong(keyword.arg, keyword.value):
            yield f"{keyword.arg}={ast.unparse(keyword.value)}"


def _literals(node: ast.Dict) -> Iterator[str]:
    """The same arguments written as a mapping that may be passed on with `**`."""
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and _is_wrong(str(key.value), value):
            yield f"{key.value}: {ast.unparse(value)}"


def _is_wrong(argument: str, value: ast.expr) -> bool:
    """Anything but the literal safe value is wrong: a variable may hold either."""
    constant = value.value if isinstance(value, ast.Constant) else None
    unsafe = argument in TRUE_NEVER and constant is not False
    return unsafe or (argument in FALSE_NEVER and constant is False)


def _origins(tree: ast.Module) -> dict[str, str]:
    """Local name -> dotted origin, for names that an import renames."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.asname: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return found


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def test_nothing_forbidden_in_the_package() -> None:
    found = [danger for module in package_modules() for danger in dangers(module)]
    assert not found, "\n".join(found)


def test_every_file_that_may_run_code_does() -> None:
    running = {
        module.path
        for module in package_modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and _runs_code(module, node)
    }
    assert running == set(RUNS_CODE), "remove what no longer needs to be allowed"


def test_only_the_sandbox_knows_what_runs_inside_it() -> None:
    """No module imports the files that run code: they are programs, started behind walls."""
    inside = {"tunesmith.evaluate.sandbox.inside", "tunesmith.evaluate.sandbox.run_tests"}
    importing = [m.path for m in package_modules() for _, name in m.imports() if name in inside]
    assert importing == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "import torch\ntorch.load(p, weights_only=True)",
        "import torch as t\nt.load(p)",
        "from torch import load",
        "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
        "eval('1')",
        "exec(code)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)",
        "AutoModel.from_pretrained(p, trust_remote_code=flag)",
        "options = {'trust_remote_code': True}",
        "subprocess.run(c, shell=True)",
        "numpy.load(p, allow_pickle=True)",
        "import os\nos.system('x')",
        "AutoModel.from_pretrained(p, use_safetensors=False)",
        "from jinja2 import Environment",
        "import jinja2\njinja2.Template('x')",
        "import jinja2 as j\nj.Environment()",
        "from jinja2.sandbox import SandboxedEnvironment",
        "tokenizer.apply_chat_template(m)",
        "import builtins\nbuiltins.eval('1')",
        "__import__(name)",
        "archive.extractall(p)",
        "import torch\ntorch.save(x, p)",
    ],
)
def test_a_danger_is_found(source: str) -> None:
    assert len(list(dangers(Module("a.py", source)))) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "import re\nre.compile('a')",
        "model.eval()",
        "import json\njson.load(f)",
        "import yaml\nyaml.safe_load(text)",
        "AutoModel.from_pretrained(p, trust_remote_code=False)",
        "subprocess.run(c, shell=False)",
        "from tunesmith.models.load import load\nload(p)",
        "from jinja2.sandbox import ImmutableSandboxedEnvironment",
        "from jinja2.environment import Template\ndef f(x: Template) -> None: ...",
    ],
)
def test_the_harmless_passes(source: str) -> None:
    assert list(dangers(Module("a.py", source))) == []
