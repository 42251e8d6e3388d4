"""Text from outside (file names, class names) made safe to print."""


def safe_text(text: str, longest: int = 200) -> str:
    r"""Control characters, line breaks, bidirectional marks and undecodable bytes shown as `\x1b`, `\u202e`.

    Longer text is cut in the middle. Rich markup is left as it is: whoever prints with markup escapes it.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in text)
    if len(shown) > longest:
        half = (longest - 3) // 2
        shown = f"{shown[:half]}...{shown[-half:]}"
    return shown
