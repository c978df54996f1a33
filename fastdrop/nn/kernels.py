"""Convolution and pooling on plain arrays: the arithmetic under `functional.conv2d` and `functional.max_pool2d`.

Images are handled as (N, H, W, C) in memory, whatever their logical order: a window's row is then one run of
``kw * C`` numbers, so gathering windows is a few long copies, and the matrix product writes its result where the next
layer wants it. The (N, C, H, W) arrays that go in and out are transposed views of that memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastdrop.nn.autograd import Array

# Windows are gathered for some images at a time: few enough that the matrix product finds them in the cache, many
# enough that products are few, since each waits for all of BLAS' threads (long, where other processes hold a core).
_COLUMN_BYTES = 1 << 22
# Below this many numbers per run, copying run by run costs more than it moves.
_SHORT_RUN = 16


def sign_mask(keep: Array) -> Array:
    """Return booleans as int8 with -1 (all bits set) for True, the form that `select` takes."""
    mask: Array = np.negative(keep.view(np.int8))
    return mask


def _channels_first(x: Array) -> Array:
    view: Array = x.transpose(0, 3, 1, 2)
    return view


def select(values: Array, mask: Array) -> Array:
    """Return `values` where `mask` (of `sign_mask`) is set and +0.0 elsewhere.

    A bitwise and: NumPy's `where` branches on every element and a product would turn a dropped infinity into NaN.
    """
    integers = np.dtype(f"i{values.dtype.itemsize}")
    selected: Array = np.bitwise_and(values.view(integers), mask, dtype=integers).view(values.dtype)
    return selected


@dataclass(frozen=True)
class Geometry:
    """Kernel size, stride, padding and dilation of a sliding window, each as (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def span(self) -> tuple[int, int]:
        """How far one window reaches."""
        return (self.dilation[0] * (self.kernel[0] - 1) + 1, self.dilation[1] * (self.kernel[1] - 1) + 1)

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Return the number of window positions for an image of this size (not positive: none fits)."""
        (sh, sw), (ph, pw), (eh, ew) = self.stride, self.padding, self.span
        return (height + 2 * ph - eh) // sh + 1, (width + 2 * pw - ew) // sw + 1

    def offsets(self, output: tuple[int, int]) -> Iterator[tuple[int, int, slice, slice]]:
        """Yield, for each place (i, j) in the window, the rows and columns of the padded image it visits."""
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                top, left = i * self.dilation[0], j * self.dilation[1]
                rows = slice(top, top + (output[0] - 1) * self.stride[0] + 1, self.stride[0])
                columns = slice(left, left + (output[1] - 1) * self.stride[1] + 1, self.stride[1])
                yield i, j, rows, columns


class _Windows:
    """The windows of a batch of images as matrix rows, a few images at a time."""

    def __init__(self, x: Array, geometry: Geometry) -> None:
        self.geometry = geometry
        self.images = x.transpose(0, 2, 3, 1)
        n, h, w, c = self.images.shape
        self.output = geometry.output(h, w)
        self.positions = self.output[0] * self.output[1]
        kh, kw = geometry.kernel
        self.width = kh * kw * c
        self.chunk = max(1, min(n, _COLUMN_BYTES // max(1, self.positions * self.width * x.itemsize)))
        ph, pw = geometry.padding
        self.padded = (h + 2 * ph, w + 2 * pw, c)
        self.stage: Array | None = None
        if ph or pw or not self.images.flags.c_contiguous:
            self.stage = np.zeros((self.chunk, *self.padded), x.dtype)
        self.direct = geometry.span == (1, 1) and geometry.stride == (1, 1)
        self.by_place = (kw * c if geometry.dilation[1] == 1 else c) < _SHORT_RUN
        self.buffer = np.empty(0 if self.direct else self.chunk * self.positions * self.width, x.dtype)

    def __iter__(self) -> Iterator[tuple[slice, slice, Array]]:
        """Yield (images, rows of the whole matrix, the (rows, kh*kw*C) matrix of these images)."""
        n = len(self.images)
        for start in range(0, n, self.chunk):
            stop = min(start + self.chunk, n)
            yield slice(start, stop), slice(start * self.positions, stop * self.positions), self._gather(start, stop)

    def _gather(self, start: int, stop: int) -> Array:
        block = self.images[start:stop]
        count = stop - start
        if self.stage is not None:
            self.interior(self.stage[:count])[...] = block
            block = self.stage[:count]
        if self.direct:
            return np.reshape(block, (-1, self.width))
        (sh, sw), (dh, dw), (oh, ow) = self.geometry.stride, self.geometry.dilation, self.output
        (kh, kw), c = self.geometry.kernel, self.padded[2]
        view = sliding_window_view(block, self.geometry.span, axis=(1, 2))[:, ::sh, ::sw, :, ::dh, ::dw]
        flat = self.buffer[: count * self.positions * self.width]
        if self.by_place:
            # Few channels: one long copy for each place in the window; the matrix is held transposed.
            np.copyto(flat.reshape(kh, kw, c, count, oh, ow), view.transpose(4, 5, 3, 0, 1, 2))
            return np.transpose(flat.reshape(self.width, -1))
        np.copyto(flat.reshape(count, oh, ow, kh, kw, c), view.transpose(0, 1, 2, 4, 5, 3))
        return np.reshape(flat, (-1, self.width))

    def interior(self, padded: Array) -> Array:
        ph, pw = self.geometry.padding
        inside: Array = padded[:, ph : padded.shape[1] - ph, pw : padded.shape[2] - pw]
        return inside


def _matrix(weight: Array) -> Array:
    """Return (O, C, kh, kw) weights as the (O, kh*kw*C) matrix that meets the windows."""
    return np.reshape(weight.transpose(0, 2, 3, 1), (weight.shape[0], -1))


def conv2d(x: Array, weight: Array, bias: Array | None, geometry: Geometry, groups: int) -> Array:
    """Return the cross-correlation of (N, C, H, W) images with (O, C/groups, kh, kw) weights."""
    n, channels, h, w = x.shape
    outputs = weight.shape[0]
    oh, ow = geometry.output(h, w)
    y = np.empty((n, oh, ow, outputs), x.dtype)
    flat = y.reshape(-1, outputs)
    for ins, outs in _groups(channels, outputs, groups):
        matrix = _matrix(weight[outs]).T
        for _, rows, columns in _Windows(x[:, ins], geometry):
            np.matmul(columns, matrix, out=flat[rows, outs])
            if bias is not None:
                flat[rows, outs] += bias[outs]
    return _channels_first(y)


def conv2d_backward(
    dy: Array, x: Array, weight: Array, geometry: Geometry, groups: int, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """Return the gradients of images (None unless wanted), weights and bias."""
    n, channels, h, w = x.shape
    outputs = weight.shape[0]
    flat = np.ascontiguousarray(dy.transpose(0, 2, 3, 1)).reshape(-1, outputs)
    dweight, dbias = np.empty_like(weight, order="C"), np.empty(outputs, weight.dtype)
    dx = np.empty((n, h, w, channels), x.dtype) if need_dx else None
    for ins, outs in _groups(channels, outputs, groups):
        windows = _Windows(x[:, ins], geometry)
        matrix = _matrix(weight[outs])
        dmatrix, sums = np.zeros_like(matrix), np.zeros(len(matrix), weight.dtype)
        scatter = _Scatter(windows) if need_dx else None
        ones = np.ones(windows.chunk * windows.positions, weight.dtype)
        for images, rows, columns in windows:
            g = flat[rows, outs]
            dmatrix += g.T @ columns
            sums += ones[: len(g)] @ g  # A matrix product sums columns faster than `sum` does.
            if dx is not None and scatter is not None:
                scatter(g, matrix, dx[images, :, :, ins])
        c, (kh, kw) = weight.shape[1], geometry.kernel
        dweight[outs] = dmatrix.reshape(-1, kh, kw, c).transpose(0, 3, 1, 2)
        dbias[outs] = sums
    return None if dx is None else _channels_first(dx), dweight, dbias


class _Scatter:
    """Adds the gradients of windows back to the images they were gathered from."""

    def __init__(self, windows: _Windows) -> None:
        self.windows = windows
        rows = windows.chunk * windows.positions
        self.buffer = np.empty((rows, windows.width), windows.buffer.dtype)
        self.stage = np.empty((windows.chunk, *windows.padded), windows.buffer.dtype)

    def __call__(self, g: Array, matrix: Array, dx: Array) -> None:
        w = self.windows
        dcolumns = np.matmul(g, matrix, out=self.buffer[: len(g)])
        if w.direct and not any(w.geometry.padding):
            dx[...] = dcolumns.reshape(dx.shape)
            return
        (kh, kw), c = w.geometry.kernel, w.padded[2]
        places = dcolumns.reshape(len(dx), *w.output, kh, kw, c)
        stage = self.stage[: len(dx)]
        stage[...] = 0
        for i, j, rows, columns in w.geometry.offsets(w.output):
            stage[:, rows, columns] += places[:, :, :, i, j]
        dx[...] = w.interior(stage)


def _groups(channels: int, outputs: int, groups: int) -> Iterator[tuple[slice, slice]]:
    ins, outs = channels // groups, outputs // groups
    for g in range(groups):
        yield slice(g * ins, (g + 1) * ins), slice(g * outs, (g + 1) * outs)


def max_pool2d(x: Array, geometry: Geometry, output: tuple[int, int], need_dx: bool) -> tuple[Array, list[Array]]:
    """Return the window maxima of (N, C, H, W) images, and what the backward needs.

    The places of the window are visited in row order. For each place after the first there is one mask of where it
    beat all before it, strictly: the last place that did so is the first of equal maxima, which takes the gradient.
    """
    padded = _padded(x, geometry, output)
    y: Array | None = None
    wins = []
    for _, _, rows, columns in geometry.offsets(output):
        candidate = padded[:, :, rows, columns]
        if y is None:
            y = candidate.copy(order="K")
            continue
        if need_dx:
            wins.append(sign_mask(candidate > y))
        np.maximum(y, candidate, out=y)
    assert y is not None
    return y, wins


def max_pool2d_backward(
    dy: Array, shape: tuple[int, ...], geometry: Geometry, output: tuple[int, int], wins: list[Array]
) -> Array:
    """Send each gradient to the place that won its window."""
    n, c, h, w = shape
    (ph, pw), (height, width) = geometry.padding, _padded_size((h, w), geometry, output)
    # The order in memory of the forward pass, which the masks have kept.
    channels_last = not wins or wins[0].strides[1] <= wins[0].strides[3]
    if channels_last:
        dx = _channels_first(np.zeros((n, height, width, c), dy.dtype))
        dy = _channels_first(np.ascontiguousarray(dy.transpose(0, 2, 3, 1)))
    else:
        dx = np.zeros((n, c, height, width), dy.dtype)
    apart = geometry.span[0] <= geometry.stride[0] and geometry.span[1] <= geometry.stride[1]
    places = list(geometry.offsets(output))
    for (_, _, rows, columns), win in zip(places[:0:-1], reversed(wins), strict=True):
        share = select(dy, win)
        dy = select(dy, ~win)
        if apart:
            dx[:, :, rows, columns] = share
        else:
            dx[:, :, rows, columns] += share
    dx[:, :, places[0][2], places[0][3]] += dy
    inside: Array = dx[:, :, ph : ph + h, pw : pw + w]
    return inside


def _padded_size(size: tuple[int, int], geometry: Geometry, output: tuple[int, int]) -> tuple[int, int]:
    """Return the image size with its padding, enlarged to what the last window reaches (ceil mode)."""
    (sh, sw), (ph, pw), (eh, ew) = geometry.stride, geometry.padding, geometry.span
    return max(size[0] + 2 * ph, (output[0] - 1) * sh + eh), max(size[1] + 2 * pw, (output[1] - 1) * sw + ew)


def _padded(x: Array, geometry: Geometry, output: tuple[int, int]) -> Array:
    n, c, h, w = x.shape
    height, width = _padded_size((h, w), geometry, output)
    if (height, width) == (h, w):
        return x
    ph, pw = geometry.padding
    padded = _channels_first(np.full((n, height, width, c), -np.inf, x.dtype))
    padded[:, :, ph : ph + h, pw : pw + w] = x
    return padded
