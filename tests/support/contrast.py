"""How well text can be told from what is behind it."""

import re


def luminance(colour: str) -> float:
    """The relative luminance of a colour #rrggbb (WCAG 2.1)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours #rrggbb, from 1 to 21 (WCAG 2.1)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def colours(css: str, scheme: int) -> dict[str, str]:
    """The named colours #rrggbb of a style sheet: of its first `:root`, which is light, or of its second, dark."""
    return dict(re.findall(r"--([\w-]+): (#\w{6});", css.split(":root {")[scheme + 1].split("}")[0]))
