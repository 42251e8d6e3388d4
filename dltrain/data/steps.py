"""What is done to an image before the network's input, in words and numbers, for readers in other languages."""

from typing import Any

from dltrain.config.mode import Config
from dltrain.config.spec import DataSpec, Target
from dltrain.data.imageset import Size
from dltrain.data.sizes import pads, parse_size


def preprocessing(cfg: Config, spec: DataSpec) -> dict[str, Any]:
    """What `decode_for` does to a file, step by step, and the normalization behind it, as plain JSON values."""
    channels, *size = spec.shape
    native = type(cfg.data).native
    masks = spec.target is Target.mask
    return {
        "layout": "uint8 of shape (batch, channels, height, width)",
        "colour": "grey" if channels == 1 else "RGB",
        "channels": channels,
        **({} if masks else {"height": size[0], "width": size[1]}),
        "steps": [
            {"do": "upright", "words": "turn the image as its EXIF orientation says; of several frames take the first"},
            _colour(channels),
            *(_scale(cfg.data.size) if masks else _resize((size[0], size[1]), None if native is None else native[1:])),
        ],
        "normalization": {
            "mean": list(spec.mean),
            "std": list(spec.std),
            "words": "(pixel / 255 - mean) / std, for each channel",
        },
    }


def _colour(channels: int) -> dict[str, Any]:
    words = "transparency over white; 16-bit grey as round(value * 255 / 65535); "
    if channels == 1:
        return {"do": "colour", "mode": "L", "words": words + "colour to grey as (299 R + 587 G + 114 B) / 1000"}
    return {"do": "colour", "mode": "RGB", "words": words + "grey repeated in each of the three channels"}


def _resize(size: Size, native: Size | None) -> list[dict[str, Any]]:
    """An image of a known set is first brought to the set's own size."""
    if native is None or native == size:
        return [_crop_resize(size)]
    return [_crop_resize(native), _pad(native, size) if pads(native, size) else _crop_resize(size)]


def _scale(text: str) -> list[dict[str, Any]]:
    """What `whole_for` does: nothing, where data.size says nothing."""
    size = parse_size(text)
    if size is None:
        return []
    height, width = size
    words = (
        f"with f = min(image_height / {height}, image_width / {width}) resize all of the image to "
        f"max({height}, round(image_height / f)) by max({width}, round(image_width / f)), halves rounded to even: "
        "in Pillow image.resize((width, height), BILINEAR). A mask comes back to the image's own size by nearest"
    )
    return [{"do": "scale", "height": height, "width": width, "filter": "bilinear", "antialias": True, "words": words}]


def _crop_resize(size: Size) -> dict[str, Any]:
    height, width = size
    return {
        "do": "crop_resize",
        "height": height,
        "width": width,
        "filter": "bilinear",
        "antialias": True,
        "words": (
            f"nothing if the image has {height}x{width} (height x width) already; else with "
            f"f = min(image_width / {width}, image_height / {height}) take the centred box of {width} f x {height} f "
            "pixels, whose corners need not be whole numbers, and resize it in one step: in Pillow "
            f"image.resize(({width}, {height}), BILINEAR, box=(left, top, right, bottom))"
        ),
    }


def _pad(native: Size, size: Size) -> dict[str, Any]:
    top, left = (size[0] - native[0]) // 2, (size[1] - native[1]) // 2
    return {
        "do": "pad",
        "top": top,
        "bottom": size[0] - native[0] - top,
        "left": left,
        "right": size[1] - native[1] - left,
        "value": 0,
        "words": "a frame of pixels of value 0",
    }
