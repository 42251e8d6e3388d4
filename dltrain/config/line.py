"""The arguments of a command line, taken apart; and what is told of one that is not right."""

from dataclasses import dataclass, field


class Slip(Exception):
    """A mistake with the arguments as they should be: `fixed` all of them, `alone` only the words in question."""

    def __init__(
        self,
        what: str,
        *,
        allowed: str = "",
        nearest: str = "",
        fixed: list[str] | None = None,
        alone: list[str] | None = None,
        topic: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.allowed = allowed
        self.nearest = nearest
        self.fixed = fixed
        self.alone = alone
        self.topic = topic  # of `--help`, when nothing better can be typed


@dataclass(frozen=True)
class Word:
    """`key=value` at a place in the arguments."""

    index: int
    key: str
    value: str

    @property
    def text(self) -> str:
        return f"{self.key}={self.value}"


@dataclass
class Line:
    """The arguments, taken apart."""

    argv: list[str]
    words: list[Word] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    @property
    def multirun(self) -> bool:
        return "-m" in self.flags or "--multirun" in self.flags

    def replaced(self, word: Word, new: list[str], *, multirun: bool = False) -> list[str]:
        """The arguments with other words in a word's place."""
        head = ["-m"] if multirun and not self.multirun else []
        return [*head, *self.argv[: word.index], *new, *self.argv[word.index + 1 :]]

    def without(self, word: Word) -> list[str]:
        """The arguments less a word."""
        return self.replaced(word, [])

    def with_option(self, group: str, option: str, before: Word) -> list[str]:
        """The arguments with `group=option`, in the place of such a word or else before the given one."""
        new = f"{group}={option}"
        if any(word.key == group for word in self.words):
            return [new if arg.startswith(f"{group}=") else arg for arg in self.argv]
        return self.replaced(before, [new, before.text])
