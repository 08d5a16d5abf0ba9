"""A person's own picture files: RGB as a viewer shows it, or one message that says what is wrong.

Files of users are hostile or odd: the header is judged before anything is decoded.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from storage.errors import ToldError

Picture = NDArray[np.uint8]

LARGEST = 120_000_000  # pixels: 360 MB decoded
SMALLEST = 16  # pixels a side: less shows no object
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_HEIC = (b"ftyphei", b"ftyphev", b"ftypmif", b"ftypmsf")
_WHITE = (255, 255, 255, 255)


class PhotographError(ToldError):
    """A picture cannot be used; the message names the file, the cause and the remedy."""


def read_photograph(path: Path) -> Picture:
    """A picture file, uint8 [H, W, 3] RGB, turned as its camera was held.

    Grey and indexed pictures become RGB; what is transparent is laid on white, as in the published
    image sets.

    Raises:
        PhotographError: It is missing, damaged, no picture, animated, too large or too small, or of
            colours that 8 bits of RGB do not hold.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # judged below
            with Image.open(path, formats=_FORMATS) as image:
                _check_header(path, image)
                return _upright(image)
    except PhotographError:
        raise
    except FileNotFoundError as error:
        raise PhotographError(f"{path} is not there: give the path of a picture") from error
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except UnidentifiedImageError as error:
        raise PhotographError(f"{path} {_unknown(path)}: save it as JPEG or PNG") from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises a dozen unrelated types for a damaged file
        reason = getattr(error, "strerror", None) or error
        raise PhotographError(f"{path} cannot be read ({reason}): give another copy") from error


def _check_header(path: Path, image: Image.Image) -> None:
    width, height = image.size
    if width * height > LARGEST:
        raise _too_large(path)
    if min(width, height) < SMALLEST:
        raise PhotographError(
            f"{path} has {width} x {height} pixels, which show no object: give a larger picture"
        )
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # previews of a camera
        raise PhotographError(
            f"{path} is animated or has several pages: save the one that you mean as JPEG or PNG"
        )
    if image.mode[0] in "IF":
        raise PhotographError(f"{path} has more than 8 bits of grey: save it with 8 bits a channel")
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        raise PhotographError(
            f"{path} has the colours {image.mode}, which are for print: save it as RGB"
        )


def _upright(image: Image.Image) -> Picture:
    turned = ImageOps.exif_transpose(image)
    if turned.has_transparency_data:
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, _WHITE), turned)
    return np.array(turned.convert("RGB"))  # asarray is read-only


def _too_large(path: Path) -> PhotographError:
    return PhotographError(
        f"{path} has more than {LARGEST // 1_000_000} million pixels: give a smaller copy"
    )


def _unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        return "is empty"
    if head[4:11] in _HEIC:
        return "is HEIC, which is not read here"
    return "is no picture that is read here"
