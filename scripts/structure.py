"""Print the shape of a checkout: its folders, its large functions and its import circles.

    python scripts/structure.py [ROOT]

Only the standard library is needed, and nothing of the checkout is imported.
"""

import ast
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("agents", "configs", "environments", "evaluation", "sampling", "training", "sesa_agent")
BESIDE = ("benchmarks", "scripts")
COMMAND_LINE = "sesa_agent/cli.py"
"""Its functions have a parameter for every option, so they are listed apart."""
GENERATED = ("__pycache__", "site", "runs", "build", "dist", "node_modules", "shared")
MAX_LINES, MAX_PARAMETERS, MAX_LOCALS = 60, 7, 12
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


# ---- folders ----


class Folder(NamedTuple):
    """A folder with the names that lie directly in it, and all files and lines below."""

    path: str
    names: list[str]
    num_files: int
    num_lines: int


def shown(path: Path) -> bool:
    """Whether a file or folder belongs to the source."""
    hidden = path.name.startswith(".") or path.name.endswith(".egg-info")
    return not hidden and not path.is_symlink() and path.name not in GENERATED


def children(folder: Path) -> list[Path]:
    """What lies directly in a folder."""
    return sorted(path for path in folder.iterdir() if shown(path))


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder and of those in it."""
    for path in children(folder):
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def folder_facts(root: Path, folder: Path) -> Folder:
    """Count what is in a folder."""
    files = list(files_below(folder))
    names = [path.name + "/" * path.is_dir() for path in children(folder)]
    num_lines = sum(map(count_lines, files))
    return Folder(folder.relative_to(root).as_posix(), names, len(files), num_lines)


def count_lines(path: Path) -> int:
    """Lines of a text; weights and pictures have none."""
    try:
        return len(path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError:
        return 0


def folders(root: Path, depth: int = 2) -> Iterator[Path]:
    """A folder and those in it down to a depth, each before its own."""
    yield root
    for path in children(root) if depth else []:
        if path.is_dir():
            yield from folders(path, depth - 1)


# ---- functions ----


class Function(NamedTuple):
    """A function and its sizes; `self` and `cls` are no parameters, parameters are no locals."""

    place: str
    num_lines: int
    num_parameters: int
    num_locals: int


def functions(root: Path, path: Path) -> Iterator[Function]:
    """All functions and methods of a file, nested ones too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node, name in named_functions(tree):
        assert node.end_lineno is not None
        place = f"{path.relative_to(root).as_posix()}:{node.lineno} {name}"
        num_lines = node.end_lineno - node.lineno + 1
        yield Function(place, num_lines, len(parameters(node)), len(local_names(node)))


def named_functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[FunctionNode, str]]:
    """Functions and methods with their dotted names, the outer before the inner."""
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}."
        if isinstance(node, FunctionNode):
            yield node, name[:-1]
        yield from named_functions(node, name)


def parameters(node: FunctionNode) -> list[str]:
    """Names of the parameters, `*args` and `**kwargs` too; `self` and `cls` are left out."""
    given = node.args
    names = [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [arg.arg for arg in (given.vararg, given.kwarg) if arg is not None]
    return [name for name in names if name not in ("self", "cls")]


def local_names(node: FunctionNode) -> set[str]:
    """What a function assigns itself: not in its nested functions or comprehensions."""
    assigned, outer = set(), set()
    for inner in own_nodes(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            assigned.add(inner.id)
        elif isinstance(inner, ast.ExceptHandler) and inner.name:
            assigned.add(inner.name)
        elif isinstance(inner, ast.Global | ast.Nonlocal):
            outer.update(inner.names)
    return assigned - outer - set(parameters(node))


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function's own scope."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*SCOPES, *COMPREHENSIONS)):
            yield child
            yield from own_nodes(child)


# ---- imports ----


def python_files(root: Path, names: tuple[str, ...] = PACKAGES) -> list[Path]:
    """The Python files of some folders."""
    below = (path for name in names if (root / name).is_dir() for path in files_below(root / name))
    return [path for path in below if path.suffix == ".py"]


def module_name(root: Path, path: Path) -> str:
    """The name that a file of the package is imported by."""
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "sesa_agent" else ("sesa_agent", *parts))


def imported_names(root: Path, path: Path, in_functions: bool = True) -> Iterator[str]:
    """Absolute names of all that a file imports; what only a type checker sees is left out."""
    package = module_name(root, path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in import_nodes(ast.parse(path.read_text(encoding="utf-8")), in_functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            # `from .. import agents` names a package only after the word import.
            yield from (".".join([*base, alias.name]) for alias in node.names)


def import_nodes(tree: ast.AST, in_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements, those for a type checker left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from import_nodes(ast.Module(node.orelse, []), in_functions)
        elif in_functions or not isinstance(node, FunctionNode):
            yield from import_nodes(node, in_functions)


def import_graph(root: Path, in_functions: bool) -> dict[str, set[str]]:
    """The modules of the package that each of them imports."""
    files = {module_name(root, path): path for path in python_files(root)}

    def targets(path: Path) -> Iterator[str]:
        for name in imported_names(root, path, in_functions):
            module = name if name in files else name.rpartition(".")[0]
            if module in files:
                yield module

    return {name: set(targets(path)) for name, path in files.items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that all lead to one another; a module that imports itself is one too."""
    reached = {name: reachable(graph, name) for name in graph}
    found = []
    for name in sorted(graph):
        group = sorted(other for other in reached[name] if name in reached[other])
        if group and group[0] == name:
            found.append(group)
    return found


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """All modules that a module leads to; itself only by a circle."""
    seen, waiting = set(), [start]
    while waiting:
        new = graph[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


# ---- the report ----


def folder_lines(root: Path) -> Iterator[str]:
    """A table of the folders."""
    yield f"{'names':>5} {'files':>6} {'lines':>8}  folder"
    for path, names, num_files, num_lines in (folder_facts(root, f) for f in folders(root)):
        yield f"{len(names):5} {num_files:6} {num_lines:8}  {path}"
        yield textwrap.indent(textwrap.fill(" ".join(names), 77, break_on_hyphens=False), " " * 23)


def function_lines(found: list[Function]) -> Iterator[str]:
    """How many functions there are, and those that exceed a limit, the largest first."""
    limits: list[tuple[str, int, Callable[[Function], int]]] = [
        ("lines", MAX_LINES, lambda function: function.num_lines),
        ("parameters", MAX_PARAMETERS, lambda function: function.num_parameters),
        ("local variables", MAX_LOCALS, lambda function: function.num_locals),
    ]
    yield f"{len(found)} functions"
    for word, limit, size in limits:
        large = sorted((f for f in found if size(f) > limit), key=size, reverse=True)
        yield f"  over {limit} {word}: {len(large)}"
        yield from (f"    {size(function):4}  {function.place}" for function in large)


def circle_lines(root: Path) -> Iterator[str]:
    """The circles that exist on import, and those that imports inside functions add."""
    for words, in_functions in (("on import", False), ("with imports inside functions", True)):
        found = circles(import_graph(root, in_functions))
        yield f"{words}: {len(found)}"
        yield from (f"    {' <-> '.join(group)}" for group in found)


def report(root: Path) -> Iterator[str]:
    """The lines of the whole report."""
    package = [f for path in python_files(root) for f in functions(root, path)]
    beside = [f for path in python_files(root, BESIDE) for f in functions(root, path)]
    commands = [f for f in package if f.place.startswith(f"{COMMAND_LINE}:")]
    yield from ("# Folders", *folder_lines(root))
    yield from ("", "# The package", *function_lines([f for f in package if f not in commands]))
    yield from ("", f"# The command line, {COMMAND_LINE}", *function_lines(commands))
    yield from ("", f"# {' and '.join(BESIDE).capitalize()}", *function_lines(beside))
    yield from ("", "# Import circles between modules of the package", *circle_lines(root))


if __name__ == "__main__":
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    print("\n".join(report(checkout.resolve())))
