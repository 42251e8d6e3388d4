"""The user's own images with masks: images/ and masks/, or train, val and test of both. Needs no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dltrain.config.data import MaskFolder
from dltrain.config.messages import Mistake
from dltrain.data.columns import by_split
from dltrain.data.files import root_of
from dltrain.data.imageset import ImageSet, Say
from dltrain.data.layout import OTHER_NAMES, SPLITS, beside, beside_notes
from dltrain.data.mask_pairs import Pairs, open_pairs
from dltrain.data.scan import Found, Stat, find_images, holds_images, subfolders
from dltrain.data.sizes import SizeRule
from dltrain.text import safe_text, some

IMAGES, MASKS = "images", "masks"
CALLED = {  # what others call the two folders
    IMAGES: ("image", "img", "imgs", "photos", "pictures", "jpegimages", "inputs", "x"),
    MASKS: ("mask", "labels", "label", "annotations", "segmentationclass", "segmentation", "gt", "targets", "y"),
}
LAYOUT = "images/1.jpg with masks/1.png, or train/images/1.jpg with train/masks/1.png, and so for val and test"


def open_mask_folder(settings: MaskFolder, suits: SizeRule, seed: int, say: Say) -> ImageSet:
    """Sample numbers are positions among the paths of images that can be read, sorted. Raises Mistake, naming files."""
    root = root_of(settings)
    places, notes = find_places(root)
    rows: list[tuple[list[str], str, str]] = []  # parts of the image's path, its mask, its split
    stats, links, others = dict[str, Stat](), list[str](), list[str]()
    for split, (images, masks) in places.items():
        found = find_images(root, images), find_images(root, masks)
        for image, mask in pair_up(root, images, masks, *found):
            rows.append((image.split("/"), mask, split))
        for one in found:
            stats |= one.files
            links += one.links
            others += one.others
    rows.sort()
    pairs = Pairs(
        root=root,
        files=["/".join(parts) for parts, _, _ in rows],
        masks=[mask for _, mask, _ in rows],
        stats=stats,
        found=by_split([split for _, _, split in rows]),
        left_out=beside(links, others),
        notes=(*notes, *beside_notes(links, others)),
    )
    return open_pairs(settings, pairs, suits, seed, say)


def find_places(root: Path) -> tuple[dict[str, tuple[str, str]], tuple[str, ...]]:
    """The folders of images and of masks of each split, and notes; an unsplit set is `train`. Raises Mistake."""
    folders = subfolders(root)
    splits = [name for name in SPLITS if name in folders and {IMAGES, MASKS} & set(subfolders(root / name))]
    whole = [name for name in (IMAGES, MASKS) if name in folders]
    if "train" not in splits:
        for name in folders:
            meant = OTHER_NAMES.get(name.lower(), name.lower())
            if meant in SPLITS and {IMAGES, MASKS} & set(subfolders(root / name)):
                hint = "add a folder train beside it" if name == meant else f"rename it to {meant}"
                raise _mistake(root, f"{_shown(root, name)} looks like a split, but there is no train", hint)
        _refuse_lacking(root, "", folders)
        of_images, of_masks = (
            [name for name in SPLITS if name in subfolders(root / place)] for place in (IMAGES, MASKS)
        )
        if "train" not in of_images:
            return {"train": (IMAGES, MASKS)}, _left_out([name for name in folders if name not in whole], whole)
        if holds_images(root / IMAGES):
            what = f"{_shown(root, IMAGES)} holds images beside the folders {', '.join(of_images)}"
            raise _mistake(root, what, f"each image in a folder of its split; or {LAYOUT}")
        if of_images != of_masks:
            what = f"{_shown(root, IMAGES)} has {', '.join(of_images)}, and {_shown(root, MASKS)} "
            what += f"has {', '.join(of_masks) or 'none of them'}"
            raise _mistake(root, what, f"the same folders in both; or {LAYOUT}")
        return {name: (f"{IMAGES}/{name}", f"{MASKS}/{name}") for name in of_images}, ()
    for name in folders:
        meant = OTHER_NAMES.get(name.lower(), name.lower())
        if name not in splits and meant in SPLITS and meant not in splits:
            hint = (
                f"rename it to {meant}" if name not in SPLITS else f"{name}/{IMAGES} and {name}/{MASKS}, or no {name}"
            )
            raise _mistake(root, f"{_shown(root, name)} stands beside train", hint)
    for name in splits:
        _refuse_lacking(root, name, subfolders(root / name))
    rest = [name for name in folders if name not in splits]
    return {name: (f"{name}/{IMAGES}", f"{name}/{MASKS}") for name in splits}, _left_out(rest, splits)


def _left_out(folders: Sequence[str], used: Sequence[str]) -> tuple[str, ...]:
    return (f"left out, being none of {', '.join(used)}: {some(folders)}",) if folders else ()


def _refuse_lacking(root: Path, below: str, folders: Sequence[str]) -> None:
    """Both folders must be there, and hold images."""
    for name in (IMAGES, MASKS):
        if name not in folders:
            near = next((one for one in folders if one.lower() == name or one.lower() in CALLED[name]), "")
            place = f"{below}/{near}" if below else near
            what = f"{_shown(root, below)} holds no folder {name}"
            links = [one for one in (name, *(() if below else SPLITS)) if (root / below / one).is_symlink()]
            what += _are_links(links, "folders")
            raise _mistake(root, what, LAYOUT, nearest=f"{safe_text(place)}: rename it to {name}" if near else "")


def pair_up(root: Path, images: str, masks: str, of_images: Found, of_masks: Found) -> list[tuple[str, str]]:
    """Each image with the mask of the same path but for the ending. Raises Mistake, naming those without."""
    for place, found in ((images, of_images), (masks, of_masks)):
        if not found.files:
            raise _mistake(root, f"no images in {_shown(root, place)}{_are_links(found.links, 'files')}", LAYOUT)
    by_stem = [_by_stem(root, place, found.files) for place, found in ((images, of_images), (masks, of_masks))]
    lone = [[one[stem] for stem in sorted(one.keys() - other.keys())] for one, other in (by_stem, by_stem[::-1])]
    if any(lone):
        parts = []
        for files, what in zip(lone, (("image", "mask"), ("mask", "image")), strict=True):
            if files:
                have = f"1 {what[0]} has" if len(files) == 1 else f"{len(files):,} {what[0]}s have"
                parts.append(f"{have} no {what[1]}: {some(files)}")
        raise _mistake(
            root,
            "; ".join(parts) + _are_links([*of_images.links, *of_masks.links], "files"),
            "for each image a mask of the same name, in folders of the same names; only the endings may differ: "
            f"{images}/a/1.jpg with {masks}/a/1.png",
            nearest=_nearly(*lone),
        )
    return [(file, by_stem[1][stem]) for stem, file in by_stem[0].items()]


def _are_links(links: Sequence[str], what: str) -> str:
    """Why something that a look into the folder shows is not there; empty without links."""
    if not links:
        return ""
    return f"; {some(links)} {'is a link' if len(links) == 1 else 'are links'}, and only {what} themselves are read"


def _by_stem(root: Path, place: str, files: Mapping[str, object]) -> dict[str, str]:
    """The file of each path below `place` without its ending. Raises Mistake if two have one."""
    found: dict[str, str] = {}
    for file in sorted(files):
        stem = file[len(place) + 1 : file.rfind(".")]
        if stem in found:
            what = f"{some([found[stem]])} and {some([file])} have one name, so that nobody knows what belongs to which"
            raise _mistake(root, what, "names that differ before the ending")
        found[stem] = file
    return found


def _nearly(images: Sequence[str], masks: Sequence[str]) -> str:
    """A mask whose name only goes on after that of an image, as 1_mask.png, and what to call it."""
    for image in images:
        name = image.rpartition("/")[2].rpartition(".")[0]
        for mask in masks:
            file = mask.rpartition("/")[2]
            if name and file.startswith(name):
                return f"{safe_text(mask)}: rename it to {safe_text(name)}{safe_text(file[file.rfind('.') :])}"
    return ""


def _shown(root: Path, below: str) -> str:
    return safe_text(str(root / below))


def _mistake(root: Path, what: str, allowed: str, nearest: str = "") -> Mistake:
    return Mistake(f"data.root={safe_text(str(root))}: {what}", allowed=allowed, nearest=nearest)
