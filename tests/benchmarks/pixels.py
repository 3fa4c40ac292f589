"""How long one core takes to decode a received buffer, by pixel format.

Run by hand: ``taskset -c 0 python tests/benchmarks/pixels.py``. The aim is Mono12p of 5 megapixels
below 8 ms. The last column compares with plain numpy over the whole picture; Bayer formats are
demosaiced by OpenCV in both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

import cv2
import numpy as np

from inspectd.acquisition.pixels import FORMATS, bytes_needed, decode
from inspectd.core.records import ImageArray

UYVY = ("YUV422_8_UYVY", "YUV422Packed", "YCbCr422_8_CbYCrY")
PATTERNS = {
    "RG": cv2.COLOR_BayerRGGB2RGB,
    "GB": cv2.COLOR_BayerGBRG2RGB,
    "GR": cv2.COLOR_BayerGRBG2RGB,
    "BG": cv2.COLOR_BayerBGGR2RGB,
}


def plain_grey(data: ImageArray, depth: str) -> ImageArray:
    """Upper 8 bits of every pixel, by the textbook."""
    if depth == "8":
        return data.copy()
    if depth in ("10", "12"):
        return (data.view("<u2") >> (int(depth) - 8)).astype(np.uint8)
    if depth == "10p":
        b = data.reshape(-1, 5).astype(np.uint16)
        pixels = [b[:, i] >> (2 * i) | b[:, i + 1] << (8 - 2 * i) for i in range(4)]
        return (np.stack(pixels, 1) >> 2).astype(np.uint8).ravel()
    b = data.reshape(-1, 3).astype(np.uint16)
    if depth == "12p":
        pixels = [b[:, 0] | (b[:, 1] & 15) << 8, b[:, 1] >> 4 | b[:, 2] << 4]
        return (np.stack(pixels, 1) >> 4).astype(np.uint8).ravel()
    return np.stack([b[:, 0], b[:, 2]], 1).astype(np.uint8).ravel()


def plain_yuv(data: ImageArray, luma: int) -> ImageArray:
    """(N, 3) in floating point."""
    pairs = data.reshape(-1, 4).astype(np.float32)
    y = pairs[:, luma::2].ravel()
    u, v = np.repeat(pairs[:, 1 - luma :: 2] - 128, 2, axis=0).T
    rgb = np.stack([y + 1.402 * v, y - 0.714136 * v - 0.344136 * u, y + 1.772 * u], 1)
    return np.asarray(np.clip(np.rint(rgb), 0, 255), np.uint8)


def plain(data: ImageArray, width: int, height: int, pixel_format: str) -> ImageArray:
    """The same picture without blocks or splitting."""
    if pixel_format.startswith("Mono"):
        return plain_grey(data, pixel_format[4:]).reshape(height, width)
    if pixel_format.startswith("Bayer"):
        mosaic = plain_grey(data, pixel_format[7:]).reshape(height, width)
        return np.asarray(cv2.cvtColor(mosaic, PATTERNS[pixel_format[5:7]]), np.uint8)
    if pixel_format.startswith("Y"):
        return plain_yuv(data, int(pixel_format in UYVY)).reshape(height, width, 3)
    pixels = data.reshape(height, width, -1)[..., :3]
    return (pixels[..., ::-1] if pixel_format.startswith("BGR") else pixels).copy()


def median_ms(work: Callable[[], ImageArray], repeats: int) -> float:
    """After one run that isn't counted."""
    work()
    found: list[float] = []
    for _ in range(repeats):
        started = perf_counter()
        work()
        found.append(1000 * (perf_counter() - started))
    return median(found)


def main() -> None:
    """Prints a line per format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=2448, help="a multiple of 4")
    parser.add_argument("--height", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    arguments = parser.parse_args()
    width, height, repeats = arguments.width, arguments.height, arguments.repeats
    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    print(f"{width} x {height} (W x H), OpenCV {cv2.__version__}, numpy {np.__version__}, 1 thread")
    print(f"{'format':18} {'ms':>7} {'numpy ms':>9} {'ratio':>6}")
    for name in arguments.formats:
        size = bytes_needed(width, height, name)
        data = random.integers(0, 256, size, dtype=np.uint8)
        ours = median_ms(partial(decode, data, width, height, name), repeats)
        theirs = median_ms(partial(plain, data, width, height, name), max(3, repeats // 4))
        difference = np.abs(
            decode(data, width, height, name).astype(np.int16) - plain(data, width, height, name)
        )
        if difference.max() > (1 if name.startswith("Y") else 0):
            raise SystemExit(f"{name}: the two pictures differ")
        print(f"{name:18} {ours:7.2f} {theirs:9.2f} {theirs / ours:6.1f}")


if __name__ == "__main__":
    main()
