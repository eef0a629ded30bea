"""The pages of the documentation."""

from pathlib import Path


def pages_of(docs: Path) -> list[Path]:
    """Every page that somebody has written: none in a build, nor in what pytest leaves behind."""
    return sorted(
        page
        for page in docs.rglob("*.md")
        if not any(part.startswith((".", "_")) for part in page.relative_to(docs).parts)
    )
