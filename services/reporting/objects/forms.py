"""Forms: variants of the same results for destinations that ask for them.

The plain form is always made: it is the one that archives and the IHE AI Results profile want, and
what a destination gets whose own form was not made.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

# Names of a form's mark: enough that two of one job hardly meet, and short enough for the table.
_MARK_LETTERS = 4


@dataclass(frozen=True, slots=True)
class Form:
    """A variant of a job's results.

    Attributes:
        options: names of what destinations ask for (`Option`).
        follows: SOP Instance UID of the earlier result that an object of this form names as its
            predecessor; empty for none. Only a destination that has that result gets the form.
    """

    options: frozenset[str] = frozenset()
    follows: str = ""

    def has(self, option: str) -> bool:
        """Whether the form has an option."""
        return option in self.options

    def alone(self) -> Form:
        """The same form without a predecessor."""
        return Form(self.options)


PLAIN = Form()


def mark_of(sop_instance_uid: str) -> str:
    """A short mark of an object, for names."""
    digest = hashlib.sha256(sop_instance_uid.encode("ascii")).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:_MARK_LETTERS]
