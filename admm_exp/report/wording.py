"""How numbers are written for people: one way each, in the terminal, in Markdown, on figures."""

from collections.abc import Sequence

from admm_exp.statistics import Paired, Spread

UNKNOWN = "–"


def percent(fraction: float) -> str:
    """Write a fraction in percent with two decimals: 0.9725 is 97.25%."""
    return f"{fraction:.2%}"


def tick_percent(fraction: float, position: float | None = None) -> str:
    """Write a fraction in percent, as short as it goes: the formatter of an axis.

    Room above 100 % is there for labels and gets no number.
    """
    return "" if fraction > 1.0 + 1e-9 else f"{100 * fraction:.4g}%"


def mean_std(found: Spread | None) -> str:
    """Write a mean of fractions in percent, and the standard deviation if there is one."""
    if found is None:
        return UNKNOWN
    if found.n == 1:
        return percent(found.mean)
    return f"{100 * found.mean:.2f} ± {100 * found.std:.2f}%"


def points(found: Paired | None) -> str:
    """Write a paired difference of fractions in percentage points, with its standard error."""
    if found is None:
        return UNKNOWN
    error = f" ± {100 * found.standard_error:.2f}" if found.n > 1 else ""
    return f"{100 * found.mean:+.2f}{error} (n {found.n})"


def count(value: float, position: float | None = None) -> str:
    """Write a large number in three digits with its unit: 77754 is 77.8 k.

    Also the formatter of an axis.
    """
    for scale, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g}"


def count_epochs(n: int, parts: int) -> str:
    """Write how many epochs there are, and how many make a pass over the data, if not one."""
    return f"{n} epochs" + (f" ({parts} are a pass over the data)" if parts > 1 else "")


def size(n_bytes: float) -> str:
    """Write a number of bytes: 77754 is 77.8 kB."""
    text = count(n_bytes)
    return text + ("B" if text[-1].isalpha() else " B")


def one_line(text: str) -> str:
    r"""Show signs that no terminal should obey as text, a new line as \n."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Write a table, its header first, in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)
