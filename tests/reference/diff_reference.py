#!/usr/bin/env python3
"""Distances of adapters by dense matrices; writes tests/fixtures/diff/cases.json.

    python diff_reference.py [--out FILE]

Norms and distances are those of s B A formed whole. The distance in standard deviations is the
minimum of w |B' - B|^2 + v |A' - A|^2 over all factors B' = P G, A' = G^-1 Q of what b adds, found
by scipy's BFGS from many starts, and then the quadratic form of the move by the whole precision
matrix over all parameters of a block. w and v are the precisions along B and A themselves.
"""
import argparse
import json
import os

import numpy as np
from scipy.optimize import minimize

HERE = os.path.dirname(os.path.abspath(__file__))
OUT, IN, RANK = 6, 7, 2


def factors(random, out=OUT, wide=IN, rank=RANK):
    return random.standard_normal((out, rank)), random.standard_normal((rank, wide))


def single(x):
    return np.asarray(x, dtype=np.float32)


def side(b, a, scale, e=None):
    made = {"b": single(b), "a": single(a), "scale": float(np.float32(scale))}
    return made if e is None else {**made, "e": single(e)}


def acting(x):
    """B and E A, without the directions whose E is 0; E of those, and where they are."""
    b, a = x["b"].astype(float), x["a"].astype(float)
    e = x["e"].astype(float) if "e" in x else np.ones(len(a))
    kept = np.flatnonzero(e)
    return b[:, kept], e[kept, None] * a[kept], e[kept], kept


def added(x):
    b, a, _, _ = acting(x)
    return x["scale"] * b @ a


def posterior(random):
    """Kronecker factors of the blocks A [rank, in] and B [out, rank] by eigenpairs."""
    def pairs(n):
        values = np.sort(random.gamma(0.5, 30, n))[::-1]
        vectors = np.linalg.qr(random.standard_normal((n, n)))[0]
        return {"values": values, "vectors": single(vectors)}
    return {"inputs": [pairs(IN), pairs(RANK)], "outputs": [pairs(RANK), pairs(OUT)],
            "denominators": [5.0, 9.0], "precisions": [0.7, 2.0]}


def precision(p, block):
    def whole(x):
        v = x["vectors"].astype(float)
        return v.T @ np.diag(x["values"]) @ v
    h = np.kron(whole(p["outputs"][block]), whole(p["inputs"][block])) / p["denominators"][block]
    return h + p["precisions"][block] * np.eye(len(h))


def in_sd(p, a, b, random):
    of_a, of_b = precision(p, 0), precision(p, 1)
    whole_b, whole_a = a["b"].astype(float), a["a"].astype(float)
    own_b, own_a, e, kept = acting(a)
    rank = len(e)
    w = whole_b.ravel() @ of_b @ whole_b.ravel() / (whole_b ** 2).sum()
    v = whole_a.ravel() @ of_a @ whole_a.ravel() / (own_a ** 2).sum()
    u, s, vt = np.linalg.svd(added(b) / a["scale"])
    if s[rank:].max() > 1e-6 * s[0]:
        return None
    left, right = u[:, :rank] * np.sqrt(s[:rank]), np.sqrt(s[:rank])[:, None] * vt[:rank]

    def move(g):
        g = g.reshape(rank, rank)
        return left @ g - own_b, np.linalg.solve(g, right) - own_a

    def cost(g):
        d_b, d_a = move(g)
        return w * (d_b ** 2).sum() + v * (d_a ** 2).sum()
    starts = [np.linalg.lstsq(left, own_b, rcond=None)[0].ravel()]
    starts += [random.standard_normal(rank * rank) for _ in range(40)]
    found = [minimize(cost, g, method="BFGS", options={"gtol": 1e-10}) for g in starts]
    d_b, d_a = np.zeros_like(whole_b), np.zeros_like(whole_a)
    d_b[:, kept], turned = move(min(found, key=lambda f: f.fun).x)
    d_a[kept] = turned / e[:, None]
    total = d_a.ravel() @ of_a @ d_a.ravel() + d_b.ravel() @ of_b @ d_b.ravel()
    return float(np.sqrt(total / (d_a.size + d_b.size)))


def cases():
    random = np.random.default_rng(16)
    p = posterior(random)
    b, a = factors(random)
    first = side(b, a, 0.5)
    turn = random.standard_normal((RANK, RANK)) + 2 * np.eye(RANK)
    other = factors(random)
    near = (b + 0.1 * random.standard_normal(b.shape), a + 0.1 * random.standard_normal(a.shape))
    sides = {
        "itself": side(b, a, 0.5),
        "in another basis": side(b @ turn, np.linalg.solve(turn, a), 0.5),
        "alpha for B": side(2 * b, a, 0.25),
        "near": side(*near, 0.5),
        "near, in another basis": side(near[0] @ turn, np.linalg.solve(turn, near[1]), 0.5),
        "half": side(b, a, 0.25),
        "larger rank of the same": side(np.hstack([b, b]), np.vstack([a, -0.5 * a]), 0.5),
        "another": side(*other, 0.5),
        "rank 3": side(*factors(random, rank=3), 0.5),
    }
    # cases that came later leave the first ones as they are
    random = np.random.default_rng(17)
    e = np.array([0.7, -1.6])
    of_e, half = side(b, a, 0.5, e), side(b, a, 0.5, np.array([0.7, 0]))
    close = [x + 0.1 * random.standard_normal(x.shape) for x in (b, a)]
    pairs = [(name, first, second) for name, second in sides.items()] + [
        ("AdaLoRA: itself", of_e, side(b, a, 0.5, e)),
        ("AdaLoRA: E in A", of_e, side(b, e[:, None] * a, 0.5)),
        ("AdaLoRA: E moved", of_e, side(b, a, 0.5, np.array([0.8, -1.5]))),
        ("AdaLoRA: near, in another basis", of_e,
         side(close[0] @ turn, np.linalg.solve(turn, e[:, None] * close[1]), 0.5)),
        ("AdaLoRA: a direction of none", half, side(close[0][:, :1], close[1][:1], 0.5, e[:1])),
        ("AdaLoRA: beyond its directions", half, of_e),
    ]
    for name, one, second in pairs:
        x, y = added(one), added(second)
        case = {"name": name, "a": one, "b": second, "norm_a": np.linalg.norm(x),
                "norm_b": np.linalg.norm(y), "distance": np.linalg.norm(x - y),
                "in_sd": in_sd(p, one, second, random)}
        yield case
    yield {"p": p, "values": list(values(p, random))}


def values(p, random):
    """Parameters as they are stored: of block B, and of block A as virtual tokens, which hold it
    turned."""
    stored = (("m.loras.task.lora_B", 1, (OUT, RANK)), ("m.lora_B", 1, (OUT, RANK)),
              ("m.lora_A", 0, (RANK, IN)), ("m.lora_A", 0, (IN, RANK)))
    for name, block, shape in stored:
        a, b = (single(random.standard_normal(shape)) for _ in range(2))
        delta = b.astype(float) - a.astype(float)
        turned = delta.T if name == "m.lora_A" and shape[0] == IN else delta
        square = turned.ravel() @ precision(p, block) @ turned.ravel()
        yield {"name": name, "out": shape[0], "in": shape[1], "a": a, "b": b,
               "in_sd": np.sqrt(square / delta.size)}


def plain(x):
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, list):
        return [plain(value) for value in x]
    if isinstance(x, np.ndarray):
        return [float(value) for value in x.ravel()]
    return float(x) if isinstance(x, np.floating) else x


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default=os.path.join(HERE, "..", "fixtures", "diff", "cases.json"))
    out = parser.parse_args().out
    *made, rest = cases()
    p = rest["p"]
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"out": OUT, "in": IN, "rank": RANK, "posterior": plain(p),
                   "cases": plain(made), "values": plain(rest["values"])}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
