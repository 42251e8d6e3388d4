"""Archives made to do harm leave nothing behind; those of every common kind are unpacked to the same files."""

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dltrain.data.extract import BLOCK, ArchiveError, extract

MOST_BYTES, MOST_ENTRIES = 1_000_000, 20
FILES = {"set/one.bin": b"a" * 700, "set/deep/two.bin": b"", "set/three.txt": b"b" * 512}


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def pack(
    path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz", form: int = tarfile.GNU_FORMAT
) -> Path:
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to unpack in, with a canary beside it."""
    (tmp_path / "canary").write_text("alive")
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def refused(place: Path, archive: Path, says: str) -> None:
    """The archive is refused with these words, and nothing is left of it anywhere."""
    before = everything(place.parent)
    with pytest.raises(ArchiveError, match=says):
        extract(archive, place / "set", MOST_BYTES, MOST_ENTRIES)
    assert everything(place.parent) == before
    assert (place.parent / "canary").read_text() == "alive"


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_common_kind_of_archive_is_unpacked(place: Path, mode: str, form: int) -> None:
    long = "set/" + "/".join(["a-long-name-of-a-folder" * 3] * 3) + "/and a file.bin"
    files = {**FILES, long: b"c" * 513}
    folders = [member("./", type=tarfile.DIRTYPE), member("./set/", type=tarfile.DIRTYPE)]
    members = [*folders, *(member(name, content, mtime=1.5) for name, content in files.items())]
    archive = pack(place.parent / "a.tar", members, mode, form)
    extract(archive, place / "set", MOST_BYTES, MOST_ENTRIES)
    assert {str(p.relative_to(place)): p.read_bytes() for p in place.rglob("*") if p.is_file()} == files
    assert [path.name for path in place.iterdir()] == ["set"]


def test_python_and_we_read_the_same_names_from_what_gnu_tar_writes(place: Path) -> None:
    """A name that is no ASCII, in all formats; the oracle is tarfile's own reader."""
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        archive = pack(place.parent / "a.tar", [member("set/größe 🦊.bin", b"x")], "w", form)
        extract(archive, place / "set", MOST_BYTES, MOST_ENTRIES)
        with tarfile.open(archive) as oracle:
            assert everything(place) == {"set", *oracle.getnames()}
        (place / "set" / "größe 🦊.bin").unlink()
        (place / "set").rmdir()


def test_modes_owners_and_times_of_the_archive_are_not_taken(place: Path) -> None:
    odd = member("set/tool", b"#!", mode=0o6777, uid=4321, mtime=1)
    extract(pack(place.parent / "a.tar", [odd]), place / "set", MOST_BYTES, MOST_ENTRIES)
    found = (place / "set" / "tool").stat()
    assert stat.S_IMODE(found.st_mode) & 0o7111 == 0
    assert found.st_uid == os.getuid()
    assert found.st_mtime > 1e9


OUTSIDE: dict[str, str] = {
    "set/../../canary": "not unpacked",
    "../canary": "not unpacked",
    "/tmp/canary": "not unpacked",
    "set/..": "not unpacked",
    "set//x": "not unpacked",
    "set\\..\\x": "not unpacked",
    "C:/x": "not unpacked",
    "set/\x1b[31mred": "not unpacked",
    "set/line\nbreak": "not unpacked",
    "set/" + "d/" * 20 + "x": "not unpacked",
    "set/" + "n" * 300: "not unpacked",
    "other/x": "outside of its folder set",
    "set": "outside of its folder set",
}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_leads_anywhere_else_is_refused(place: Path, name: str, form: int) -> None:
    refused(
        place, pack(place.parent / "a.tar", [member("set/good", b"x"), member(name, b"evil")], form=form), OUTSIDE[name]
    )


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Q", "an entry of kind Q"),
        (b"\x1b", r"an entry of kind \\x1b"),
    ],
)
def test_links_devices_and_unknown_kinds_are_refused(place: Path, kind: bytes, says: str) -> None:
    link = member("set/link", type=kind, linkname=str(place.parent))
    refused(place, pack(place.parent / "a.tar", [link]), says)


def test_nothing_is_written_through_a_link(place: Path) -> None:
    members = [member("set/out", type=tarfile.SYMTYPE, linkname="../.."), member("set/out/canary", b"dead")]
    refused(place, pack(place.parent / "a.tar", members), "a symbolic link")


@pytest.mark.parametrize("second", ["set/x", "set/./x", "./set/x", "set/x/y"])
def test_a_name_twice_is_refused(place: Path, second: str) -> None:
    members = [member("set/x", b"first"), member(second, b"second")]
    refused(place, pack(place.parent / "a.tar", members), "twice")


def zeros(path: Path, count: int, head: bytes = b"") -> Path:
    """A .gz of some megabytes that unpacks to `head` and `count` zeros."""
    portion = bytes(1 << 24)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(count // len(portion)):
            file.write(portion)
    return path


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def test_ten_gigabytes_of_zeros_stop_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that says how large it is; one that does not (after the archive's end); a record of the archive itself."""
    read = 0
    real = gzip.GzipFile.read

    def count(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal read
        part = real(self, size)
        read += len(part)
        return part

    monkeypatch.setattr(gzip.GzipFile, "read", count)
    packed = place.parent / "a.tar.gz"
    for head, says in (
        (header("set/zeros", 10 * 2**30), "no octal number|more than 1,000,000 bytes"),
        (header("set/zeros", 8 * 2**30 - 1), "more than 1,000,000 bytes"),
        (header("set/x", 0), "far more than it says"),
        (header("././@LongLink", 8 * 2**30 - 1, tarfile.GNUTYPE_LONGNAME), "larger than any name"),
        (header("././@PaxHeader", 8 * 2**30 - 1, b"x"), "larger than any name"),
    ):
        refused(place, zeros(packed, 1 << 27, head), says)
    assert read < 2 * MOST_BYTES


def test_many_small_entries_and_many_records_are_bounded(place: Path) -> None:
    refused(
        place, pack(place.parent / "a.tar", [member(f"set/{n}") for n in range(21)]), "more than 20 files and folders"
    )
    packed = place.parent / "b.tar.gz"
    with gzip.open(packed, "wb", compresslevel=1) as file:
        for _ in range(1000):
            file.write(header("././@LongLink", 60_000, tarfile.GNUTYPE_LONGNAME) + bytes(60_000 + -60_000 % BLOCK))
    refused(place, packed, "far more than it says")


@pytest.mark.parametrize(
    "size", [b"-0000000001\0", b"99999999999\0", b"\x80" + bytes(10) + b"\x01", b"\xff" * 12, b"1_0        \0"]
)
def test_a_size_that_is_none_is_refused(place: Path, size: bytes) -> None:
    raw = bytearray(header("set/x", 0))
    raw[124:136] = size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    archive = place.parent / "a.tar"
    archive.write_bytes(bytes(raw) + bytes(2 * BLOCK))
    refused(place, archive, "no octal number")


@pytest.mark.parametrize(
    "record",
    [b"x", b"99 path=set/x\n", b"-1 path=x\n", b"0 \n", b"4 a\n", b"17 size=99999999\n", b"999999999999 path=x\n"],
)
def test_a_damaged_pax_record_is_refused(place: Path, record: bytes) -> None:
    archive = place.parent / "a.tar"
    blocks = header("pax", len(record), b"x") + record + bytes(-len(record) % BLOCK) + header("set/x", 0)
    archive.write_bytes(blocks + bytes(2 * BLOCK))
    refused(place, archive, "pax record")


def cut_at(count: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:count]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda raw: b"", "holds no folder set"),
        (lambda raw: b"rubbish" * 100, "no tar archive"),
        (lambda raw: b"GIF89a", "no tar archive"),
        (lambda raw: raw[:600] + b"!" + raw[601:], ""),
        (lambda raw: raw[:300] + bytes([raw[300] ^ 1]) + raw[301:], "no tar archive, or is damaged"),
        (cut_at(200), "no tar archive"),
        (cut_at(700), "ends in the middle of a file"),
    ],
)
def test_a_damaged_archive_is_refused(place: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    archive = pack(place.parent / "a.tar", [member("set/x", b"a" * 700)], "w")
    archive.write_bytes(damage(archive.read_bytes()))
    if says:
        refused(place, archive, says)
    else:  # content has no checksum in tar; the negative control of this test
        extract(archive, place / "set", MOST_BYTES, MOST_ENTRIES)


def test_a_damaged_gzip_is_refused_also_in_its_checksum(place: Path) -> None:
    archive = pack(place.parent / "a.tar.gz", [member("set/x", os.urandom(5000))])
    whole = archive.read_bytes()
    for damaged in (whole[:-9], whole[:1000], whole[:-8] + b"\0\0\0\0" + whole[-4:], whole[:9] + b"\xff" * 50):
        archive.write_bytes(damaged)
        refused(place, archive, "is damaged")


def test_what_is_there_already_is_not_touched(place: Path) -> None:
    (place / "set").mkdir()
    (place / "set" / "mine").write_text("mine")
    with pytest.raises(OSError, match="not empty"):
        extract(pack(place.parent / "a.tar", [member("set/x", b"x")]), place / "set", MOST_BYTES, MOST_ENTRIES)
    assert everything(place) == {"set", "set/mine"}
