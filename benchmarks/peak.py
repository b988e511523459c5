"""What the machine's cores can do at the most: products of large matrices, measured, not looked up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np

SIZE = 1024
N_PRODUCTS = 16  # chained in one graph, so that calling it costs nothing beside them
N_ROUNDS = 5


def matmul_peak(kind: Literal["f32", "bf16", "int8"], *, n_threads: int) -> float:
    """Return multiply-add operations per second, 2 per product and sum, best of several rounds.

    Args:
        kind: What is multiplied: float32, bfloat16, or static int8 with int32 sums.
        n_threads: Cores; each works on products of its own.
    """
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if kind == "bf16" else "f32",
        "NUM_STREAMS": n_threads,
        "INFERENCE_NUM_THREADS": n_threads,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = ov.Core().compile_model(_chain(quantised=kind == "int8"), "CPU", settings)
    requests = [compiled.create_infer_request() for _ in range(n_threads)]
    values = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    best = float("inf")
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in range(N_ROUNDS + 1):
            began = time.perf_counter()
            list(pool.map(lambda request: request.infer([values]), requests))
            best = min(best, time.perf_counter() - began)
    return 2 * SIZE**3 * N_PRODUCTS * n_threads / best


def _chain(*, quantised: bool) -> Any:
    import openvino as ov
    from openvino import opset13 as op

    rng = np.random.default_rng(1)
    given = op.parameter([SIZE, SIZE], np.float32)
    node = given
    for _ in range(N_PRODUCTS):
        weight = op.constant(rng.normal(size=(SIZE, SIZE)).astype(np.float32) / SIZE**0.5)
        if quantised:
            low, high = op.constant(np.float32(-4)), op.constant(np.float32(4 - 8 / 256))
            node = op.fake_quantize(node, low, high, low, high, 256)
            edge = op.constant(np.float32(4 / SIZE**0.5))
            under = op.constant(np.float32(-4 / SIZE**0.5))
            weight = op.fake_quantize(weight, under, edge, under, edge, 255)
        node = op.matmul(node, weight, transpose_a=False, transpose_b=False)
    return ov.Model([node], [given])
