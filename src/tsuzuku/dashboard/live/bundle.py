"""The component's modules as one, which is what Streamlit takes.

The files are ES modules, and browsers load them as they are (the tests do). Here each becomes a
function that is called once, in the order in which they need each other.
"""

from __future__ import annotations

import re
from pathlib import Path

_IMPORT = re.compile(r'^import \{([\w\s,]+)\} from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const|let) (\w+))", re.MULTILINE)
_LEFT = re.compile(r"^(?:import|export) .*$", re.MULTILINE)


def bundled(folder: Path, entry: str) -> str:
    """The module `entry` of a folder with all that it imports; it keeps its default export.

    Raises ValueError for an import or export that is written in another way.
    """
    parts: dict[str, str] = {}
    source = _with_imports(folder, entry, parts, ())
    return "\n".join([*parts.values(), source])


def _with_imports(folder: Path, name: str, parts: dict[str, str], above: tuple[str, ...]) -> str:
    """The source of a module, its imports taken from `parts`, to which they are added."""
    if name in above:
        raise ValueError(f"{name}.js imports itself by way of {above}.")
    source = (folder / f"{name}.js").read_text(encoding="utf-8")
    for match in _IMPORT.finditer(source):
        needed = match[2]
        if needed not in parts:
            parts[needed] = _closed(needed, _with_imports(folder, needed, parts, (*above, name)))
    source = _IMPORT.sub(r"const {\1} = $\2;", source)
    if wrong := [line for line in _LEFT.findall(_EXPORT.sub("", source)) if not _is_entry(line)]:
        raise ValueError(f"{name}.js: {wrong[0]!r} cannot be bundled.")
    return source


def _closed(name: str, source: str) -> str:
    names = ", ".join(found[1] for found in _EXPORT.findall(source))
    body = _EXPORT.sub(r"\1", source)
    return f"const ${name} = (() => {{\n{body}\nreturn {{ {names} }};\n}})();"


def _is_entry(line: str) -> bool:
    return line.startswith("export default function ")
