"""Which sides of images a network with an output for each pixel takes, and what becomes of them."""

from dataclasses import dataclass

TILE = 512  # side of the tiles of large images, if nobody says more
MORE = 384  # by which tiles of networks that look far exceed the least, so that memory stays within bounds


@dataclass(frozen=True)
class Sides:
    """It takes sides of k * stride + offset; outputs look `margin` pixels far, and on each side lack `lost` of them.

    `lost` is 0 of a network that pads, else its margin.
    """

    stride: int
    offset: int
    margin: int
    lost: int

    @property
    def overlap(self) -> int:
        """How far tiles of a network that loses nothing reach into each other, on each side; aligned to the stride."""
        return 0 if self.lost else -(-self.margin // self.stride) * self.stride

    @property
    def least(self) -> int:
        """The smallest tile that brings the answer on."""
        return self.up(2 * (self.lost or self.overlap) + self.stride)

    @property
    def tile(self) -> int:
        """Side of tiles, if nobody says more.

        A quarter or more of what is computed is answered, but for networks that look so far that such tiles would
        take too much memory.
        """
        return self.up(max(TILE, min(4 * self.margin, self.least + MORE)))

    def up(self, side: int) -> int:
        """The smallest side that the network takes, no smaller than `side`."""
        return max(0, -(-(side - self.offset) // self.stride)) * self.stride + self.offset

    def down(self, side: int) -> int:
        """The largest side that the network takes, no larger than `side`."""
        return (side - self.offset) // self.stride * self.stride + self.offset
