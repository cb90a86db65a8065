"""Error codes are what scripts and people search for: each stands for one error."""

import importlib
import pkgutil
from collections import defaultdict

import nnc_codec
import nnc_nnef
import nnc_onnx
from nnc_codec.errors import NNRError


def test_every_code_belongs_to_one_error():
    for package in (nnc_codec, nnc_onnx, nnc_nnef):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", "child", "_native", "_ops")):
                importlib.import_module(module.name)
    owners = defaultdict(set)
    todo = [NNRError]
    while todo:
        error = todo.pop()
        todo += error.__subclasses__()
        if "code" in vars(error):
            owners[error.code].add(f"{error.__module__}.{error.__name__}")
    assert {code: sorted(names) for code, names in owners.items() if len(names) > 1} == {}
