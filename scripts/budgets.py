"""Fail on a function over 60 lines, a file over 400, over 7 parameters; print the medians."""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

MAX_FUNCTION, MAX_FILE, MAX_PARAMETERS = 60, 400, 7
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "base", "misc"}


def main() -> int:
    """Check every module of the package; return the number of broken budgets."""
    broken: list[str] = []
    functions: list[int] = []
    files: list[int] = []
    for path in sorted(Path("lightly_fs").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        files.append(text.count("\n"))
        if files[-1] > MAX_FILE:
            broken.append(f"{path}: {files[-1]} lines (budget {MAX_FILE})")
        if path.stem in FORBIDDEN_NAMES:
            broken.append(f"{path}: a name that says nothing")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append(_check(path, node, broken))
    print(
        f"{len(files)} files, median {statistics.median(files):.0f} lines; "
        f"{len(functions)} functions, median {statistics.median(functions):.0f} lines"
    )
    print("\n".join(broken), file=sys.stderr, end="\n" if broken else "")
    return len(broken)


def _check(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef, broken: list[str]) -> int:
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > MAX_FUNCTION:
        broken.append(f"{path}:{node.lineno} {node.name}: {length} lines (budget {MAX_FUNCTION})")
    arguments = node.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    n_parameters = len([name for name in names if name not in ("self", "cls")])
    is_command = any("click" in ast.dump(decorator) for decorator in node.decorator_list)
    if n_parameters > MAX_PARAMETERS and not is_command:
        broken.append(f"{path}:{node.lineno} {node.name}: {n_parameters} parameters")
    return length


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
