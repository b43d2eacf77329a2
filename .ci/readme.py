"""The README for the page of a package index, which has none of our files: its links lead to the repository, or go."""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

IMAGE = re.compile(r"!\[[^\]]*\]\((?![a-z]+:)([^)\s]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Gives the metadata of the wheel the README, as hatchling asks for it."""

    def update(self, metadata: dict) -> None:
        """Set the readme; `repository` in pyproject.toml, below the hook's name, says where the files are published."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        text = published(text, self.config.get("repository", ""), metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def published(text: str, repository: str, version: str) -> str:
    """Return a page whose links to files lead to those of a version in a repository; without one, the words alone."""
    if not repository:
        return LINK.sub(r"\1", IMAGE.sub("", text))
    base = repository.rstrip("/")
    text = IMAGE.sub(lambda found: found[0].replace(found[1], f"{base}/raw/v{version}/{found[1]}"), text)
    return LINK.sub(lambda found: f"[{found[1]}]({base}/blob/v{version}/{found[2]})", text)
