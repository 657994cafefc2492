"""Loops for CPUs, compiled by Numba (the extra `numba`): the blocks of the mask generator but the first, and mask times pattern.

They read and write memory once where torch's operations do so several times, and keep what lies between in a core's cache. Every
kernel takes arrays of float32, and, last, the images that are its share. What it sums up it sums up image by image, rows in float32
and then in double, so that results do not depend on the number of threads.

Maps are (B, H, W, D) or (B, H, W * D), the memory of torch's channels_last order; h is H // 2, w is W // 2. Places in a 2x2 pool
count 0, 1 in its upper row and 2, 3 in its lower one.
"""

import numba
import numpy as np

# Compiled once on a machine: Numba keeps the code in __pycache__, or in the user's cache where that cannot be written. Sums may be
# taken in any order, which vector instructions need. NaN and infinity keep their meaning
compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})

_ZERO = np.float32(0)


@compiled
def _repeated(values, width):
    """(D,) -> (width,): one set after another, so that an inner loop may run over pixels and channels at once."""
    result = np.empty(width, np.float32)
    for i in range(0, width, len(values)):
        result[i : i + len(values)] = values
    return result


@compiled
def _sum_pixels(line, totals):
    """(w * D,) -> (D,) in double."""
    totals[:] = 0.0
    for i in range(0, len(line), len(totals)):
        for d in range(len(totals)):
            totals[d] += line[i + d]


@compiled
def pool(maps: np.ndarray, pooled: np.ndarray, places: np.ndarray, squares: np.ndarray, first: int, last: int) -> None:
    """2x2 max pool: maps (B, H, W, D) -> pooled (B, h, w, D), places (B, h, w, D) of the maxima in bytes, squares (B, D) in double:
    sums of the squares of all of `maps`."""
    _, height, width, channels = maps.shape
    total = np.empty(channels, np.float32)
    for b in range(first, last):
        squares[b] = 0.0
        for y in range(height // 2):
            upper_row, lower_row = maps[b, 2 * y], maps[b, 2 * y + 1]
            total[:] = _ZERO
            for i in range(width // 2):
                y0, y1, y2, y3 = upper_row[2 * i], upper_row[2 * i + 1], lower_row[2 * i], lower_row[2 * i + 1]
                highest, place = pooled[b, y, i], places[b, y, i]
                for d in range(channels):
                    v0, v1, v2, v3 = y0[d], y1[d], y2[d], y3[d]
                    total[d] += v0 * v0 + v1 * v1 + v2 * v2 + v3 * v3
                    upper = v1 if v1 > v0 else v0
                    lower = v3 if v3 > v2 else v2
                    in_upper = np.uint8(1) if v1 > v0 else np.uint8(0)
                    in_lower = np.uint8(3) if v3 > v2 else np.uint8(2)
                    highest[d] = lower if lower > upper else upper
                    place[d] = in_lower if lower > upper else in_upper
            if width % 2:  # a column that is in no pool
                y0, y2 = upper_row[width - 1], lower_row[width - 1]
                for d in range(channels):
                    total[d] += y0[d] * y0[d] + y2[d] * y2[d]
            for d in range(channels):
                squares[b, d] += total[d]
        if height % 2:
            total[:] = _ZERO
            for i in range(width):
                y0 = maps[b, height - 1, i]
                for d in range(channels):
                    total[d] += y0[d] * y0[d]
            for d in range(channels):
                squares[b, d] += total[d]


@compiled
def relu(pooled: np.ndarray, factor: np.ndarray, offset: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
    """`relu(factor * pooled + offset)`, both maps (B, h, w * D); factor and offset are (D,)."""
    _, height, width = pooled.shape
    f, k = _repeated(factor, width), _repeated(offset, width)
    for b in range(first, last):
        for y in range(height):
            source, target = pooled[b, y], out[b, y]
            for i in range(width):
                value = f[i] * source[i] + k[i]
                target[i] = value if value > _ZERO else _ZERO


@compiled
def relu_gradient(
    gradient: np.ndarray,
    out: np.ndarray,
    pooled: np.ndarray,
    passed: np.ndarray,
    ones: np.ndarray,
    products: np.ndarray,
    first: int,
    last: int,
) -> None:
    """What the ReLU lets through of `gradient`, as passed, all maps (B, h, w * D); (B, D) sums of it and of it times `pooled`, in
    double."""
    _, height, width = pooled.shape
    one, product = np.empty(width, np.float32), np.empty(width, np.float32)  # sums of columns
    for b in range(first, last):
        one[:] = _ZERO
        product[:] = _ZERO
        for y in range(height):
            source, after, before, target = gradient[b, y], out[b, y], pooled[b, y], passed[b, y]
            for i in range(width):
                value = source[i] if after[i] > _ZERO else _ZERO
                target[i] = value
                one[i] += value
                product[i] += value * before[i]
        _sum_pixels(one, ones[b])
        _sum_pixels(product, products[b])


@compiled
def pool_gradient(
    maps: np.ndarray,
    places: np.ndarray,
    passed: np.ndarray,
    factor: np.ndarray,
    slope: np.ndarray,
    constant: np.ndarray,
    full: np.ndarray,
    first: int,
    last: int,
) -> None:
    """The gradient of `maps` (B, H, W, D): `constant + slope * maps`, (D,) each, and `factor * passed` more at the maxima."""
    _, height, width, channels = maps.shape
    for b in range(first, last):
        for y in range(height // 2):
            upper, lower, above, below = maps[b, 2 * y], maps[b, 2 * y + 1], full[b, 2 * y], full[b, 2 * y + 1]
            for i in range(width // 2):
                gradient, place = passed[b, y, i], places[b, y, i]
                # One loop for each: with four arrays to write in one, the compiler does not use vector instructions
                source, target = upper[2 * i], above[2 * i]
                for d in range(channels):
                    target[d] = constant[d] + slope[d] * source[d] + (factor[d] * gradient[d] if place[d] == 0 else _ZERO)
                source, target = upper[2 * i + 1], above[2 * i + 1]
                for d in range(channels):
                    target[d] = constant[d] + slope[d] * source[d] + (factor[d] * gradient[d] if place[d] == 1 else _ZERO)
                source, target = lower[2 * i], below[2 * i]
                for d in range(channels):
                    target[d] = constant[d] + slope[d] * source[d] + (factor[d] * gradient[d] if place[d] == 2 else _ZERO)
                source, target = lower[2 * i + 1], below[2 * i + 1]
                for d in range(channels):
                    target[d] = constant[d] + slope[d] * source[d] + (factor[d] * gradient[d] if place[d] == 3 else _ZERO)
            if width % 2:  # a column that is in no pool
                for d in range(channels):
                    above[width - 1, d] = constant[d] + slope[d] * upper[width - 1, d]
                    below[width - 1, d] = constant[d] + slope[d] * lower[width - 1, d]
        if height % 2:
            for i in range(width):
                for d in range(channels):
                    full[b, height - 1, i, d] = constant[d] + slope[d] * maps[b, height - 1, i, d]


@compiled
def square_sums(maps: np.ndarray, squares: np.ndarray, first: int, last: int) -> None:
    """maps (B, H, W * D) -> squares (B, D) in double: sums of their squares."""
    _, height, width = maps.shape
    total = np.empty(width, np.float32)
    for b in range(first, last):
        total[:] = _ZERO
        for y in range(height):
            line = maps[b, y]
            for i in range(width):
                total[i] += line[i] * line[i]
        _sum_pixels(total, squares[b])


@compiled
def norm_gradient(
    maps: np.ndarray,
    passed: np.ndarray,
    factor: np.ndarray,
    slope: np.ndarray,
    constant: np.ndarray,
    full: np.ndarray,
    first: int,
    last: int,
) -> None:
    """`constant + slope * maps + factor * passed`: maps, passed and full are (B, H, W * D), the others (D,)."""
    _, height, width = maps.shape
    f, m, k = _repeated(factor, width), _repeated(slope, width), _repeated(constant, width)
    for b in range(first, last):
        for y in range(height):
            source, gradient, target = maps[b, y], passed[b, y], full[b, y]
            for i in range(width):
                target[i] = k[i] + m[i] * source[i] + f[i] * gradient[i]


@compiled
def patch_gradients(
    gradient: np.ndarray,
    values: np.ndarray,
    pattern: np.ndarray,
    of_values: np.ndarray,
    of_pattern: np.ndarray,
    first: int,
    last: int,
) -> None:
    """Gradients of `values` (B, C, n, n) and of `pattern` (3, S, S), given that (B, 3, S, S) of their product with each value
    copied over its patch. C is 3 or 1. The shares are rows of patches, so that no two threads add to the same pixels."""
    batch, channels, size = len(gradient), values.shape[1], pattern.shape[2]
    count = values.shape[3]
    patch = size // count
    line, wide = np.empty(size, np.float32), np.empty(size, np.float32)
    of_pattern[:, first * patch : last * patch] = _ZERO
    for b in range(batch):
        of_values[b, :, first:last] = _ZERO
        for c in range(3):
            channel = c if channels == 3 else 0
            for row in range(first, last):
                value, of_value = values[b, channel, row], of_values[b, channel, row]
                line[:] = _ZERO
                for i in range(count):
                    wide[i * patch : i * patch + patch] = value[i]
                for y in range(row * patch, row * patch + patch):
                    pixels, pattern_row, of_row = gradient[b, c, y], pattern[c, y], of_pattern[c, y]
                    for i in range(size):
                        line[i] += pixels[i] * pattern_row[i]
                    for i in range(size):
                        of_row[i] += wide[i] * pixels[i]
                for i in range(count):
                    of_value[i] += line[i * patch : i * patch + patch].sum()
