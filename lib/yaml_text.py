"""How is YAML read so that nothing of it is dropped? As ever, but for a refusal of the key that a mapping holds twice."""

from __future__ import annotations

from typing import Any

import yaml


def read(text: str) -> Any:
    """The value that a text of YAML stands for.

    Raises yaml.YAMLError for a text that is no YAML or holds a key twice, ValueError for a date such as 2020-13-45.
    """
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """YAML's own loader keeps the last of two keys that are the same: a whole section of a profile could go without a word."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {twice} is there twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)
