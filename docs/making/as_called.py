"""An extension of Griffe: adds what it does not see itself, options that a decorator spells out, comments of fields."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe

_KINDS = {kind: griffe.ParameterKind(kind.description) for kind in inspect._ParameterKind}
_COMMENT = re.compile(r"  # (?!type:|noqa)(.*)$")


class AsCalled(griffe.Extension):
    """Shows the options that a function takes by `**options`, and describes a class's parameters by their comments."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Take signature and docstring of a function with `**options` from the function itself."""
        if not any(str(one.annotation).startswith("Unpack[") for one in func.parameters):
            return
        function = getattr(importlib.import_module(func.module.path), func.name)
        func.parameters = griffe.Parameters(*map(_parameter, inspect.signature(function).parameters.values()))
        func.docstring = griffe.Docstring(inspect.getdoc(function) or "", lineno=func.lineno, parent=func)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Leave special methods out, and describe the fields of a dataclass as its parameters, not as members."""
        own = [one for one in cls.members.values() if not one.is_alias]
        fields = [one for one in own if isinstance(one, griffe.Attribute) and _is_field(one)] if _holds(cls) else []
        for member in [*fields, *(one for one in own if one.is_special)]:
            member.public = False  # the pages show public members
        said = {one.name: found[1] for one in fields if (found := _COMMENT.search(one.source))}
        if said and cls.docstring and not re.search(r"^(Args|Attributes):$", cls.docstring.value, re.MULTILINE):
            cls.docstring.value += "\n\nArgs:\n" + "\n".join(f"    {name}: {text}" for name, text in said.items())


def _holds(cls: griffe.Class) -> bool:
    return any(one.callable_path == "dataclasses.dataclass" for one in cls.decorators)


def _is_field(attribute: griffe.Attribute) -> bool:
    return attribute.annotation is not None and "property" not in attribute.labels


def _parameter(one: inspect.Parameter) -> griffe.Parameter:
    annotation = getattr(one.annotation, "__forward_arg__", one.annotation)
    return griffe.Parameter(
        one.name,
        annotation=None if annotation is one.empty else str(annotation),
        kind=_KINDS[one.kind],
        default=None if one.default is one.empty else repr(one.default),
    )
