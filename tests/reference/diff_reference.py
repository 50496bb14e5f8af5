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


def side(b, a, scale):
    return {"b": single(b), "a": single(a), "scale": float(np.float32(scale))}


def added(x):
    return x["scale"] * x["b"].astype(float) @ x["a"].astype(float)


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
    own_b, own_a = a["b"].astype(float), a["a"].astype(float)
    w = own_b.ravel() @ of_b @ own_b.ravel() / (own_b ** 2).sum()
    v = own_a.ravel() @ of_a @ own_a.ravel() / (own_a ** 2).sum()
    u, s, vt = np.linalg.svd(added(b) / a["scale"])
    left, right = u[:, :RANK] * np.sqrt(s[:RANK]), np.sqrt(s[:RANK])[:, None] * vt[:RANK]

    def move(g):
        g = g.reshape(RANK, RANK)
        return left @ g - own_b, np.linalg.solve(g, right) - own_a

    def cost(g):
        d_b, d_a = move(g)
        return w * (d_b ** 2).sum() + v * (d_a ** 2).sum()
    starts = [np.linalg.lstsq(left, own_b, rcond=None)[0].ravel()]
    starts += [random.standard_normal(RANK * RANK) for _ in range(40)]
    found = [minimize(cost, g, method="BFGS", options={"gtol": 1e-10}) for g in starts]
    d_b, d_a = move(min(found, key=lambda f: f.fun).x)
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
    for name, second in sides.items():
        x, y = added(first), added(second)
        case = {"name": name, "a": first, "b": second, "norm_a": np.linalg.norm(x),
                "norm_b": np.linalg.norm(y), "distance": np.linalg.norm(x - y),
                "in_sd": in_sd(p, first, second, random) if name != "rank 3" else None}
        yield case
    yield p


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
    *made, p = cases()
    os.makedirs(os.path.dirname(out), exist_ok=True)
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"out": OUT, "in": IN, "rank": RANK, "posterior": plain(p),
                   "cases": plain(made)}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
