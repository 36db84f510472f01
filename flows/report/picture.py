"""This file holds pictures as a page shows them: inside itself, and named."""

import base64
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Picture"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a page.

    Attributes:
        alt: What it shows.
        svg: The picture.
        narrow: The same for a narrow page, where shrinking would make it unreadable.
        is_wide: Whether a narrow page shows it part by part instead.
    """

    alt: str
    svg: str
    narrow: str = ""
    is_wide: bool = False

    @classmethod
    def of_plot(cls, alt: str, draw: Callable[..., str], **narrow: int) -> "Picture":
        """Return what `draw()` draws, and `draw(**narrow)` for a narrow page."""
        return cls(alt, draw(), draw(**narrow) if narrow else "")

    @property
    def sources(self) -> tuple[str, ...]:
        """The picture as a link that needs no network, and the narrow one if any."""
        svgs = (self.svg, self.narrow) if self.narrow else (self.svg,)
        return tuple(
            f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
            for svg in svgs
        )
