"""Convolution and pooling on plain arrays: the arithmetic under `functional.conv2d` and `functional.max_pool2d`.

Float32 convolutions without groups are compiled (csrc/fd_conv.h); the others gather windows for matrix products.

Images are handled as (N, H, W, C) in memory, whatever their logical order: a window's row is then one run of
``kw * C`` numbers, so gathering windows is a few long copies, and the matrix product writes its result where the next
layer wants it. The (N, C, H, W) arrays that go in and out are transposed views of that memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastdrop import _core
from fastdrop.nn import buffers
from fastdrop.nn.autograd import Array

# Windows are gathered for some images at a time: few enough that the matrix product finds them in the cache, many
# enough that products are few, since each waits for all of BLAS' threads (long, where other processes hold a core).
_COLUMN_BYTES = 1 << 22
# Below this many numbers per run, copying run by run costs more than it moves.
_SHORT_RUN = 16


def _channels_first(x: Array) -> Array:
    view: Array = x.transpose(0, 3, 1, 2)
    return view


def compiled_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that compiled kernels compute in: half precision goes through float32, rounded once."""
    return dtype if dtype in (np.float32, np.float64) else np.dtype(np.float32)


def plain(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """Return an array as compiled kernels take it: itself, if it is contiguous, aligned and of this dtype."""
    return np.require(x, dtype, ["C", "A"])


@dataclass(frozen=True)
class Geometry:
    """Kernel size, stride, padding and dilation of a sliding window, each as (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def parts(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
        """As the compiled kernels take it."""
        return self.kernel, self.stride, self.padding, self.dilation

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
    """The windows of a batch of images as matrix rows, a few images at a time: for what no compiled kernel takes."""

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
        self.buffer = buffers.empty((0 if self.direct else self.chunk * self.positions * self.width,), x.dtype)

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


def _direct(x: Array, y: Array, geometry: Geometry, groups: int) -> bool:
    """Whether the compiled convolution takes (N, H, W, C) images x to results y."""
    return groups == 1 and x.dtype == y.dtype == np.float32 and _core.conv_takes(x.shape, y.shape, geometry.parts)


def _turned(geometry: Geometry) -> Geometry | None:
    """The convolution that takes gradients back to the images; None where there is none of stride 1."""
    padding = tuple(span - 1 - pad for span, pad in zip(geometry.span, geometry.padding, strict=True))
    if geometry.stride != (1, 1) or min(padding) < 0:
        return None
    return Geometry(geometry.kernel, (1, 1), (padding[0], padding[1]), geometry.dilation)


def conv2d(x: Array, weight: Array, bias: Array | None, geometry: Geometry, groups: int) -> Array:
    """Return the cross-correlation of (N, C, H, W) images with (O, C/groups, kh, kw) weights."""
    n, channels, h, w = x.shape
    outputs = weight.shape[0]
    oh, ow = geometry.output(h, w)
    y = buffers.empty((n, oh, ow, outputs), x.dtype)
    images = x.transpose(0, 2, 3, 1)
    if _direct(images, y, geometry, groups):
        plain_bias = None if bias is None else plain(bias)
        _core.conv(plain(images), plain(weight), plain_bias, y, geometry.parts)
        return _channels_first(y)
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
    images, g = x.transpose(0, 2, 3, 1), plain(dy.transpose(0, 2, 3, 1))
    dweight, dbias = np.empty_like(weight, order="C"), np.empty(outputs, weight.dtype)
    dx = buffers.empty((n, h, w, channels), x.dtype) if need_dx else None
    back = _turned(geometry)
    if _direct(images, g, geometry, groups) and (dx is None or (back is not None and _direct(g, dx, back, groups))):
        _core.conv_weights(plain(images), g, dweight, dbias, geometry.parts)
        if dx is not None and back is not None:
            _core.conv(g, plain(weight), None, dx, back.parts, turned=True)
        return None if dx is None else _channels_first(dx), dweight, dbias
    flat = g.reshape(-1, outputs)
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
        self.buffer = buffers.empty((rows, windows.width), windows.buffer.dtype)
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


def max_pool2d(x: Array, geometry: Geometry, output: tuple[int, int], need_dx: bool) -> tuple[Array, Array | None]:
    """Return the window maxima of (N, C, H, W) images, and the place in its window of each, if gradients are needed."""
    n, channels = x.shape[:2]
    images = plain(x.transpose(0, 2, 3, 1), compiled_dtype(x.dtype))
    y = buffers.empty((n, *output, channels), images.dtype)
    winner = buffers.empty(y.shape, np.uint16) if need_dx else None
    _core.max_pool(images, y, winner, geometry.parts)
    return _channels_first(y.astype(x.dtype, copy=False)), winner


def max_pool2d_backward(dy: Array, shape: tuple[int, ...], geometry: Geometry, winner: Array) -> Array:
    """Send each gradient to the place that won its window."""
    n, channels, h, w = shape
    g = plain(dy.transpose(0, 2, 3, 1), compiled_dtype(dy.dtype))
    dx = buffers.empty((n, h, w, channels), g.dtype)
    _core.max_pool_grad(g, winner, dx, geometry.parts)
    return _channels_first(dx.astype(dy.dtype, copy=False))
