"""Tables that a narrow screen can scroll, by finger and by keyboard."""

from xml.etree import ElementTree as etree

from markdown import Markdown
from markdown.treeprocessors import Treeprocessor


class FocusableTables(Treeprocessor):
    """Put every table into a region that scrolls by itself and takes the focus."""

    def __init__(self, md: Markdown, name: str):
        super().__init__(md)
        self.name = name

    def run(self, root: etree.Element) -> None:
        for parent in list(root.iter()):
            for place, child in enumerate(list(parent)):
                if child.tag == "table":
                    parent[place] = self._region(child)

    def _region(self, table: etree.Element) -> etree.Element:
        table.set("class", "qa-table")
        region = etree.Element(
            "div",
            {"class": "qa-scroll", "role": "region", "tabindex": "0", "aria-label": self.name},
        )
        region.tail, table.tail = table.tail, None
        region.append(table)
        return region
