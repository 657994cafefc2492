"""The mask generator's loops for CPUs, compiled by Numba (the extra `numba`).

They read and write memory once where torch's operations do so several times, and keep what lies between in a core's cache. Every
kernel takes arrays of float32, and, last, the images that are its share. What it sums up it sums up image by image, rows in float32
and then in double, so that results do not depend on the number of threads.

`x` is (B, C, H, W). Maps are (B, H, W, D), the memory of torch's channels_last order, but for those of the first block, which are
(B, D, h, w); h is H // 2, w is W // 2. Places in a 2x2 pool count 0, 1 in its upper row and 2, 3 in its lower one.
"""

import ctypes
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import threadpoolctl
import torch

# Sums may be taken in any order, which vector instructions need. NaN and infinity keep their meaning
_compiled = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})

_ROWS = 8  # of pools that the first block works on at a time: their rows of the image stay in the cache meanwhile
_ZERO = np.float32(0)

_Task = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _openmp() -> ctypes.CDLL | None:
    """The OpenMP library whose threads torch uses; None where there is none, or another than GNU's interface."""
    found = [ctypes.CDLL(each["filepath"]) for each in threadpoolctl.threadpool_info() if each["user_api"] == "openmp"]
    # Other packages bring libraries of their own
    own = [each for each in found if Path(torch.__file__).parent in Path(each._name).resolve().parents] or found
    if len(own) != 1 or not hasattr(own[0], "GOMP_parallel"):
        return None
    own[0].GOMP_parallel.argtypes = [_Task, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    own[0].GOMP_parallel.restype = None
    return own[0]


def share_out(kernel: Callable[..., None], count: int, *arrays: np.ndarray) -> None:
    """Run `kernel(*arrays, first, last)` on parts of `range(count)`, in as many threads as torch has.

    They are torch's own where possible: after each operation those wait actively for the next one, for milliseconds, in which other
    threads would have to share the cores with them.
    """
    parts = max(min(torch.get_num_threads(), count), 1)
    if parts == 1:
        kernel(*arrays, 0, count)
        return
    bounds = [count * part // parts for part in range(parts + 1)]
    openmp = _openmp()
    if openmp is None:
        with ThreadPoolExecutor(parts) as threads:
            list(threads.map(lambda first, last: kernel(*arrays, first, last), bounds[:-1], bounds[1:]))
        return
    failed = []

    def task(_):
        try:  # the team may be smaller than asked for
            for part in range(openmp.omp_get_thread_num(), parts, openmp.omp_get_num_threads()):
                kernel(*arrays, bounds[part], bounds[part + 1])
        except BaseException as error:  # cannot pass through C
            failed.append(error)

    openmp.GOMP_parallel(_Task(task), None, parts, 0)
    if failed:
        raise failed[0]


@_compiled
def _split(image, planes, pitch):
    """(C, H, W) -> (C, 4, (h + 1) * pitch + 1): the image with a border of zeros, its even and odd rows and columns apart, so that
    the pixels under one tap of a convolution lie side by side for neighbouring pools. pitch is w + 1."""
    channels, height, width = image.shape
    for c in range(channels):
        planes[c] = _ZERO
        for y in range(height):
            row = image[c, y]
            parity = 2 * ((y + 1) % 2)
            at = (y + 1) // 2 * pitch
            even, odd = planes[c, parity, at:], planes[c, parity + 1, at:]
            for i in range(width // 2):
                odd[i] = row[2 * i]
                even[i + 1] = row[2 * i + 1]


@_compiled
def _convolve(maps, planes, weight, bias, at, count, pitch):
    """(4, count): what the convolution gives at the four places of the pools from `at` on. weight is (C, 9)."""
    y0, y1, y2, y3 = maps[0], maps[1], maps[2], maps[3]
    for i in range(count):
        y0[i] = bias
        y1[i] = bias
        y2[i] = bias
        y3[i] = bias
    for c in range(len(weight)):
        w0, w1, w2, w3, w4 = weight[c, 0], weight[c, 1], weight[c, 2], weight[c, 3], weight[c, 4]
        w5, w6, w7, w8 = weight[c, 5], weight[c, 6], weight[c, 7], weight[c, 8]
        a, b, d, e = planes[c, 0, at:], planes[c, 1, at:], planes[c, 2, at:], planes[c, 3, at:]
        below = at + pitch
        f, g, h, k = planes[c, 0, below:], planes[c, 1, below:], planes[c, 2, below:], planes[c, 3, below:]
        for i in range(count):
            x00, x01, x02, x03 = a[i], b[i], a[i + 1], b[i + 1]
            x10, x11, x12, x13 = d[i], e[i], d[i + 1], e[i + 1]
            x20, x21, x22, x23 = f[i], g[i], f[i + 1], g[i + 1]
            x30, x31, x32, x33 = h[i], k[i], h[i + 1], k[i + 1]
            y0[i] += w0 * x00 + w1 * x01 + w2 * x02 + w3 * x10 + w4 * x11 + w5 * x12 + w6 * x20 + w7 * x21 + w8 * x22
            y1[i] += w0 * x01 + w1 * x02 + w2 * x03 + w3 * x11 + w4 * x12 + w5 * x13 + w6 * x21 + w7 * x22 + w8 * x23
            y2[i] += w0 * x10 + w1 * x11 + w2 * x12 + w3 * x20 + w4 * x21 + w5 * x22 + w6 * x30 + w7 * x31 + w8 * x32
            y3[i] += w0 * x11 + w1 * x12 + w2 * x13 + w3 * x21 + w4 * x22 + w5 * x23 + w6 * x31 + w7 * x32 + w8 * x33


@_compiled
def _correlate(total, maps, planes, at, count, pitch):
    """Add to `total` (C, 9) the gradient of the weights, given that of `_convolve`'s result."""
    y0, y1, y2, y3 = maps[0], maps[1], maps[2], maps[3]
    for c in range(len(total)):
        a, b, d, e = planes[c, 0, at:], planes[c, 1, at:], planes[c, 2, at:], planes[c, 3, at:]
        below = at + pitch
        f, g, h, k = planes[c, 0, below:], planes[c, 1, below:], planes[c, 2, below:], planes[c, 3, below:]
        w0 = w1 = w2 = w3 = w4 = w5 = w6 = w7 = w8 = _ZERO
        for i in range(count):
            x00, x01, x02, x03 = a[i], b[i], a[i + 1], b[i + 1]
            x10, x11, x12, x13 = d[i], e[i], d[i + 1], e[i + 1]
            x20, x21, x22, x23 = f[i], g[i], f[i + 1], g[i + 1]
            x30, x31, x32, x33 = h[i], k[i], h[i + 1], k[i + 1]
            v0, v1, v2, v3 = y0[i], y1[i], y2[i], y3[i]
            w0 += v0 * x00 + v1 * x01 + v2 * x10 + v3 * x11
            w1 += v0 * x01 + v1 * x02 + v2 * x11 + v3 * x12
            w2 += v0 * x02 + v1 * x03 + v2 * x12 + v3 * x13
            w3 += v0 * x10 + v1 * x11 + v2 * x20 + v3 * x21
            w4 += v0 * x11 + v1 * x12 + v2 * x21 + v3 * x22
            w5 += v0 * x12 + v1 * x13 + v2 * x22 + v3 * x23
            w6 += v0 * x20 + v1 * x21 + v2 * x30 + v3 * x31
            w7 += v0 * x21 + v1 * x22 + v2 * x31 + v3 * x32
            w8 += v0 * x22 + v1 * x23 + v2 * x32 + v3 * x33
        sums = total[c]
        sums[0] += w0
        sums[1] += w1
        sums[2] += w2
        sums[3] += w3
        sums[4] += w4
        sums[5] += w5
        sums[6] += w6
        sums[7] += w7
        sums[8] += w8


@_compiled
def _scratch(x, weight):
    width = x.shape[3] // 2 + 1
    planes = np.empty((x.shape[1], 4, (x.shape[2] // 2 + 1) * width + 1), np.float32)
    return planes, np.empty((4, _ROWS * width), np.float32)


@_compiled
def first_block(x, weight, bias, pooled, places, squares, first, last) -> None:
    """Convolution and 2x2 max pool of images of even sides.

    weight (D, C, 9), bias (D,) -> pooled (B, D, h, w), places (B, D, h, w) of the maxima in bytes, squares (B, D) in double: sums
    of the squares of the unpooled map.
    """
    height, width = x.shape[2] // 2, x.shape[3] // 2
    pitch = width + 1
    planes, maps = _scratch(x, weight)
    for b in range(first, last):
        _split(x[b], planes, pitch)
        squares[b] = 0.0
        for top in range(0, height, _ROWS):
            rows = min(_ROWS, height - top)
            for d in range(len(weight)):
                _convolve(maps, planes, weight[d], bias[d], top * pitch, rows * pitch, pitch)
                for row in range(rows):
                    at = row * pitch
                    y0, y1, y2, y3 = maps[0, at:], maps[1, at:], maps[2, at:], maps[3, at:]
                    highest, place = pooled[b, d, top + row], places[b, d, top + row]
                    total = _ZERO
                    for i in range(width):
                        v0, v1, v2, v3 = y0[i], y1[i], y2[i], y3[i]
                        total += v0 * v0 + v1 * v1 + v2 * v2 + v3 * v3
                        upper = v1 if v1 > v0 else v0
                        lower = v3 if v3 > v2 else v2
                        in_upper = np.uint8(1) if v1 > v0 else np.uint8(0)
                        in_lower = np.uint8(3) if v3 > v2 else np.uint8(2)
                        highest[i] = lower if lower > upper else upper
                        place[i] = in_lower if lower > upper else in_upper
                    squares[b, d] += total


@_compiled
def first_block_gradient(x, weight, bias, places, passed, factor, slope, constant, sums, first, last) -> None:
    """The gradient of the weights, (B, D, C, 9) in double.

    That of the unpooled map is `constant + slope * map`, (D,) each, and `factor * passed` more at the maxima. The map is computed
    again, which is faster than to read it.
    """
    height, width = x.shape[2] // 2, x.shape[3] // 2
    pitch = width + 1
    planes, maps = _scratch(x, weight)
    for b in range(first, last):
        _split(x[b], planes, pitch)
        sums[b] = 0.0
        for top in range(0, height, _ROWS):
            rows = min(_ROWS, height - top)
            for d in range(len(weight)):
                _convolve(maps, planes, weight[d], bias[d], top * pitch, rows * pitch, pitch)
                f, m, k = factor[d], slope[d], constant[d]
                for row in range(rows):
                    at = row * pitch
                    y0, y1, y2, y3 = maps[0, at:], maps[1, at:], maps[2, at:], maps[3, at:]
                    gradient, place = passed[b, d, top + row], places[b, d, top + row]
                    for i in range(width):
                        v, where = f * gradient[i], place[i]
                        y0[i] = k + m * y0[i] + (v if where == 0 else _ZERO)
                        y1[i] = k + m * y1[i] + (v if where == 1 else _ZERO)
                        y2[i] = k + m * y2[i] + (v if where == 2 else _ZERO)
                        y3[i] = k + m * y3[i] + (v if where == 3 else _ZERO)
                    y0[width] = y1[width] = y2[width] = y3[width] = _ZERO  # between two rows there is no pool
                _correlate(sums[b, d], maps, planes, top * pitch, rows * pitch, pitch)


@_compiled
def first_relu(pooled, factor, offset, out, first, last) -> None:
    """`relu(factor * pooled + offset)`: (B, D, h, w) -> (B, h, w, D); factor and offset are (D,)."""
    _, channels, height, width = pooled.shape
    lines = np.empty((channels, width), np.float32)
    for b in range(first, last):
        for y in range(height):
            for d in range(channels):
                source, line, f, k = pooled[b, d, y], lines[d], factor[d], offset[d]
                for i in range(width):
                    value = f * source[i] + k
                    line[i] = value if value > _ZERO else _ZERO
            target = out[b, y]
            for i in range(width):
                for d in range(channels):
                    target[i, d] = lines[d, i]


@_compiled
def first_relu_gradient(gradient, out, pooled, passed, ones, products, first, last) -> None:
    """What the ReLU lets through of `gradient` (B, h, w * D), as passed (B, D, h, w); (B, D) sums of it and of it times `pooled`,
    in double."""
    _, channels, height, width = pooled.shape
    line = np.empty(width * channels, np.float32)
    for b in range(first, last):
        ones[b] = 0.0
        products[b] = 0.0
        for y in range(height):
            source, after = gradient[b, y], out[b, y]
            for i in range(width * channels):
                line[i] = source[i] if after[i] > _ZERO else _ZERO
            for d in range(channels):
                before, target = pooled[b, d, y], passed[b, d, y]
                one = product = _ZERO
                for i in range(width):
                    value = line[i * channels + d]
                    target[i] = value
                    one += value
                    product += value * before[i]
                ones[b, d] += one
                products[b, d] += product


@_compiled
def pool(maps, pooled, places, squares, first, last) -> None:
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


@_compiled
def relu(pooled, factor, offset, out, first, last) -> None:
    """As `first_relu`, with both maps (B, h, w * D)."""
    _, height, width = pooled.shape
    channels = len(factor)
    wide = np.empty((2, width), np.float32)  # for a long inner loop
    for i in range(0, width, channels):
        wide[0, i : i + channels] = factor
        wide[1, i : i + channels] = offset
    f, k = wide[0], wide[1]
    for b in range(first, last):
        for y in range(height):
            source, target = pooled[b, y], out[b, y]
            for i in range(width):
                value = f[i] * source[i] + k[i]
                target[i] = value if value > _ZERO else _ZERO


@_compiled
def relu_gradient(gradient, out, pooled, passed, ones, products, first, last) -> None:
    """As `first_relu_gradient`, with all maps (B, h, w * D)."""
    _, height, width = pooled.shape
    channels = ones.shape[1]
    one, product = np.empty(width, np.float32), np.empty(width, np.float32)  # sums of columns: a long inner loop
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
        ones[b] = 0.0
        products[b] = 0.0
        for i in range(0, width, channels):
            for d in range(channels):
                ones[b, d] += one[i + d]
                products[b, d] += product[i + d]


@_compiled
def pool_gradient(maps, places, passed, factor, slope, constant, full, first, last) -> None:
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


@_compiled
def square_sums(maps, squares, first, last) -> None:
    """maps (B, H, W * D) -> squares (B, D) in double: sums of their squares."""
    _, height, width = maps.shape
    channels = squares.shape[1]
    total = np.empty(width, np.float32)
    for b in range(first, last):
        total[:] = _ZERO
        for y in range(height):
            line = maps[b, y]
            for i in range(width):
                total[i] += line[i] * line[i]
        squares[b] = 0.0
        for i in range(0, width, channels):
            for d in range(channels):
                squares[b, d] += total[i + d]


@_compiled
def norm_gradient(maps, passed, factor, slope, constant, full, first, last) -> None:
    """`constant + slope * maps + factor * passed`: maps, passed and full are (B, H, W * D), the others (D,)."""
    _, height, width = maps.shape
    channels = len(factor)
    wide = np.empty((3, width), np.float32)  # for a long inner loop
    for i in range(0, width, channels):
        wide[0, i : i + channels] = factor
        wide[1, i : i + channels] = slope
        wide[2, i : i + channels] = constant
    f, m, k = wide[0], wide[1], wide[2]
    for b in range(first, last):
        for y in range(height):
            source, gradient, target = maps[b, y], passed[b, y], full[b, y]
            for i in range(width):
                target[i] = k[i] + m[i] * source[i] + f[i] * gradient[i]


@_compiled
def patch_gradients(gradient, values, pattern, of_values, of_pattern, first, last) -> None:
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
