"""Stands in for SGLang's compute kernels where there is no build of them, so that its server runs on any CPU.

With this folder in PYTHONPATH and SGLANG_USE_CPU_ENGINE=1, SGLang 0.5 finds no kernels for the CPU and computes in plain torch;
what it takes from here without asking is below. Everything else of the server is its own.
"""

import sys
import types


def assign_req_to_token_pool_cpu(slots, table, starts, ends, places, _width):
    at = 0
    for slot, start, end in zip(slots.tolist(), starts.tolist(), ends.tolist(), strict=True):
        table[slot, start:end] = places[at : at + end - start].to(table.dtype)
        at += end - start


def missing(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def kernel(*_arguments, **_named):
        raise NotImplementedError(f"there is no {name} here")

    return kernel


def __getattr__(name):
    return missing(name)


class Part(types.ModuleType):
    def __getattr__(self, name):
        return missing(name)


class Names:
    def __getattr__(self, name):
        return name


for part in ["elementwise", "flash_attn", "kvcacheio", "mamba", "quantization", "scalar_type", "speculative", "utils"]:
    sys.modules[f"{__name__}.{part}"] = globals()[part] = Part(f"{__name__}.{part}")
sys.modules[f"{__name__}.scalar_type"].scalar_types = Names()
sys.modules[f"{__name__}.scalar_type"].ScalarType = type("ScalarType", (), {})
