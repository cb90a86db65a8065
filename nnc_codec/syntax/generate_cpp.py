"""Writes the C++17 reader of the syntax: ``python generate_cpp.py OUT``.

Runs in the build environment before anything is compiled, with the standard library alone: the description is
imported without the package around it.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnc_codec.syntax.expressions import Expression
    from nnc_codec.syntax.fields import Element, Structure

_SCALARS = {"ue": "std::uint64_t", "i": "std::int64_t", "ie": "std::int64_t", "flt": "float",
            "st": "std::string_view", "bits": "std::vector<std::uint8_t>", "data": "Bytes"}  # fmt: skip


_PYTHON_ONLY = ("max_units", "reference_list", "base")


def _load(name: str) -> Any:
    """Import a module of the syntax package, without running ``nnc_codec/__init__.py``."""
    if "nnc_codec" not in sys.modules:
        package = types.ModuleType("nnc_codec")
        package.__path__ = [str(Path(__file__).resolve().parents[1])]
        sys.modules["nnc_codec"] = package
    return importlib.import_module(f"nnc_codec.syntax.{name}")


def _ordered(roots: list[type[Structure]]) -> list[type[Structure]]:
    """The structures with everything they contain, contents first."""
    found: list[type[Structure]] = []

    def visit(cls: type[Structure]) -> None:
        for element in cls.elements:
            if element.structure is not None:
                visit(element.structure)
        if cls not in found:
            found.append(cls)

    for root in roots:
        visit(root)
    return found


def _scalar(element: Element) -> str:
    if element.structure is not None:
        return element.structure.__name__
    if element.kind == "u":
        return "std::uint32_t" if element.fixed_width <= 32 else "std::uint64_t"
    return _SCALARS[element.kind]


def _member(element: Element) -> str:
    scalar = _scalar(element)
    if element.count is not None:
        return f"  std::vector<{scalar}> {element.name};"
    default = element.default if isinstance(element.default, int) else 0
    numeric = scalar.startswith("std::uint") or scalar.startswith("std::int") or scalar == "float"
    return f"  {scalar} {element.name} = {default};" if numeric else f"  {scalar} {element.name};"


class _Reader:
    """Source of the ``read`` function of one structure."""

    def __init__(self, cls: type[Structure], constants: dict[str, int]) -> None:
        self.cls = cls
        self.constants = constants
        self.members: set[str] = set()
        self.locals: set[str] = {"index", *cls.parameters}
        self.lines: list[str] = []

    def resolve(self, name: str) -> str:
        if name in self.members:
            return f"v.{name}"
        return name if name in self.locals or name in self.constants else f"context.{name}"

    def text(self, expression: Expression) -> str:
        return expression.cpp(self.resolve, self.constants)

    def put(self, depth: int, line: str) -> None:
        self.lines.append("  " * (depth + 1) + line)

    def attempt(self, depth: int, call: str, name: str) -> None:
        self.put(depth, f'if (Code code = {call}; code != Code::ok) return r.fail(code, "{name}");')

    def refuse(self, depth: int, condition: str, kind: str, what: str) -> None:
        self.put(depth, f'if ({condition}) return r.fail(Code::{kind}, "{what}");')

    def source(self) -> str:
        parameters = "".join(f", [[maybe_unused]] std::int64_t {name}" for name in self.cls.parameters)
        for element in self.cls.elements:
            self.element(element)
        common = "BitReader& r, [[maybe_unused]] const Context& context"
        head = f"inline Status read({common}, {self.cls.__name__}& v{parameters}) {{"
        return "\n".join([head, *self.lines, "  return Status{};", "}"])

    def element(self, element: Element) -> None:
        if element.kind == "local" and element.inferred is not None:
            value = self.text(element.inferred)
            self.put(0, f"[[maybe_unused]] const auto& {element.name} = {value};")
            self.locals.add(element.name)
            return
        if element.when is None:
            self.present(element, 0)
        else:
            self.put(0, f"if ({self.text(element.when)}) {{")
            self.present(element, 1)
            self.absent(element)
            self.put(0, "}")
        if element.is_value:
            self.members.add(element.name)
        self.checks(element)

    def present(self, element: Element, depth: int) -> None:
        if element.unverified is not None:
            self.put(depth, "r.here();")
            self.refuse(depth, "context.strict", "unsupported", f"{element.name}: {element.unverified}")
        target = f"v.{element.name}"
        if element.count is None:
            self.read_one(element, depth, target)
            self.bounds(element, depth, target)
            return
        count = f"entries_of_{element.name}"
        self.put(depth, f"const std::int64_t {count} = {self.text(element.count)};")
        self.attempt(depth, f"r.entries({count}, {element.min_bits})", element.name)
        self.refuse(depth, f"!resize({target}, {count})", "out_of_memory", element.name)
        self.put(depth, f"for (std::int64_t index = 0; index < {count}; ++index) {{")
        self.read_one(element, depth + 1, f"{target}[static_cast<std::size_t>(index)]")
        self.put(depth, "}")
        self.bounds(element, depth, target)

    def read_one(self, element: Element, depth: int, target: str) -> None:
        width = self.text(element.width) if element.width is not None else ""
        if element.structure is not None:
            args = dict(element.args)
            values = "".join(f", {self.text(args[name])}" for name in element.structure.parameters)
            self.put(depth, f"if (Status s = read(r, context, {target}{values}); !s.ok()) return s;")
        elif element.kind == "align":
            self.attempt(depth, "r.align()", element.name)
        elif element.kind == "st":
            self.attempt(depth, f"r.st({target}, context.max_name_bytes)", element.name)
        elif element.kind in ("flt", "data"):
            self.attempt(depth, f"r.{'rest' if element.kind == 'data' else 'flt'}({target})", element.name)
        else:
            self.attempt(depth, f"r.{element.kind}({width}, {target})", element.name)

    def bounds(self, element: Element, depth: int, target: str) -> None:
        if element.low is None or element.high is None:
            return
        low, high = self.text(element.low), self.text(element.high)
        value = target if element.count is None else "item"
        if element.count is not None:
            self.put(depth, f"for (const auto& item : {target}) {{")
        outside = f"val({value}) < {low} || val({value}) > {high}"
        self.refuse(depth + (element.count is not None), outside, "corrupt", f"{element.name}: out of range")
        if element.count is not None:
            self.put(depth, "}")

    def absent(self, element: Element) -> None:
        if element.inferred is None:
            return
        self.put(0, "} else {")
        target = f"v.{element.name}"
        if element.count is not None:
            value = self.text(element.inferred)
            self.refuse(1, f"!copy({target}, {value})", "out_of_memory", element.name)
        else:
            self.put(1, f"{target} = static_cast<{_scalar(element)}>({self.text(element.inferred)});")

    def checks(self, element: Element) -> None:
        guard = f"({self.text(element.when)}) && " if element.only_if_present and element.when else ""
        for check in element.require:
            condition = self.text(check.expression)
            self.refuse(0, f"{guard}!({condition})", check.kind, f"{element.name}: {check.why}")


def _struct(cls: type[Structure]) -> str:
    members = [_member(element) for element in cls.elements if element.is_value]
    return "\n".join([f"struct {cls.__name__} {{", *members, "};"])


def _context() -> str:
    import dataclasses

    context = _load("context")
    lines = ["// Facts about a data unit that its header may leave out.", "struct OutOfBand {"]
    for item in dataclasses.fields(context.OutOfBand):
        lines.append(_plain_member(item.name, item.default))
    lines += ["};", "", "// State of a bitstream between two units, and the bounds its syntax is held to.",
              "struct Context {"]  # fmt: skip
    for item in dataclasses.fields(context.Context):
        if item.name not in _PYTHON_ONLY:
            lines.append(_plain_member(item.name, item.default))
    lines += [
        "  OutOfBand base;",
        "",
        "  const OutOfBand& out_of_band(std::string_view, std::int64_t,",
        "                               const TopologyElementsIdsList&) const {",
        "    return base;",
        "  }",
        "};",
    ]
    return "\n".join(lines)


def _plain_member(name: str, default: object) -> str:
    if isinstance(default, tuple):
        return f"  std::vector<std::uint64_t> {name};"
    if isinstance(default, bool):
        return f"  bool {name} = {str(default).lower()};"
    return f"  std::int64_t {name} = {default or 0};"


def _update(cls: type[Structure]) -> str:
    lines = [f"inline void update(Context& context, const {cls.__name__}& v) {{"]
    lines += [f"  context.{name} = static_cast<std::int64_t>(v.{name});" for name in cls.exports]
    if cls.counter is not None:
        lines.append(f"  context.{cls.counter} += 1;")
    return "\n".join([*lines, "}"])


def header() -> str:
    """The whole header as text."""
    runtime, enums, units = _load("cpp_runtime"), _load("enums"), _load("units")
    sets, topology = _load("parameter_sets"), _load("topology")
    constants: dict[str, int] = enums.CONSTANTS
    structures = _ordered([
        units.UnitSize, units.UnitHeader, sets.ModelParameterSet, sets.LayerParameterSet,
        topology.TopologyUnitPayload, units.QuantizationUnitPayload, units.AggregateUnitPayload,
    ])  # fmt: skip
    parts = [runtime.PROLOGUE.rstrip()]
    parts.append("\n".join(f"constexpr std::int64_t {name} = {value};" for name, value in constants.items()))
    parts += [_struct(cls) for cls in structures]
    parts.append(_context())
    parts += [_Reader(cls, constants).source() for cls in structures]
    parts.append("// What a unit changes for the units after it.")
    parts += [_update(cls) for cls in structures if cls.exports]
    text: str = "\n\n".join(parts) + "\n" + runtime.EPILOGUE
    return text


def main() -> int:
    """Write the header to the path given; leave an equal file alone, so that nothing is rebuilt."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: generate_cpp.py OUT\n")
        return 2
    out, text = Path(sys.argv[1]), header()
    if not out.exists() or out.read_text(encoding="utf-8") != text:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(out.name + ".tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
