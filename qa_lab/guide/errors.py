"""What stops the build of a page."""

from pymdownx.superfences import SuperFencesException


class PageError(SuperFencesException):
    """A page asks for something that is not there, or asks wrongly. It stops the build.

    SuperFences shows a fence as plain code when its formatter raises anything else.
    """
