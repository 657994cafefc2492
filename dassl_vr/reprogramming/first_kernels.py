"""The loops of `kernels` for the mask generator's first block, whose few channels other layouts suit: convolution and pool.

`x` is (B, C, H, W), the block's maps are (B, D, h, w); h is H // 2, w is W // 2. What goes to the next block is (B, h, w, D).
"""

import numpy as np

from .kernels import compiled

_ROWS = 8  # of pools that the first block works on at a time: their rows of the image stay in the cache meanwhile
_ZERO = np.float32(0)


@compiled
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


@compiled
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


@compiled
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


@compiled
def _scratch(x, weight):
    width = x.shape[3] // 2 + 1
    planes = np.empty((x.shape[1], 4, (x.shape[2] // 2 + 1) * width + 1), np.float32)
    return planes, np.empty((4, _ROWS * width), np.float32)


@compiled
def first_block(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    pooled: np.ndarray,
    places: np.ndarray,
    squares: np.ndarray,
    first: int,
    last: int,
) -> None:
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


@compiled
def first_block_gradient(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    places: np.ndarray,
    passed: np.ndarray,
    factor: np.ndarray,
    slope: np.ndarray,
    constant: np.ndarray,
    sums: np.ndarray,
    first: int,
    last: int,
) -> None:
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


@compiled
def first_relu(pooled: np.ndarray, factor: np.ndarray, offset: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
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


@compiled
def first_relu_gradient(
    gradient: np.ndarray,
    out: np.ndarray,
    pooled: np.ndarray,
    passed: np.ndarray,
    ones: np.ndarray,
    products: np.ndarray,
    first: int,
    last: int,
) -> None:
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
