"""The window that training takes from each image of a set with masks. Needs no torch."""

from dltrain.data.sizes import Size, SizeRule, parse_size

LARGEST = 256  # side of a window that nobody asked for


def window(crop: str, suits: SizeRule, smallest: Size) -> Size:
    """What `data.crop` comes to: given, else as much of the smallest training image as suits the model.

    `smallest` is the least height and the least width of the training images, after `data.size`. A window that is
    larger than an image is filled by mirroring. Raises Mistake for what is no size.
    """
    given = parse_size(crop, "data.crop")
    if given is not None:
        return given
    own = min(smallest[0], LARGEST), min(smallest[1], LARGEST)
    return own if suits is None else suits(own)
