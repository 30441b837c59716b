"""What the groups of the settings tree have in common."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Secret,
    SecretBytes,
    SecretStr,
    StringConstraints,
)

AeTitle = Annotated[
    str, StringConstraints(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]+$")
]
Port = Annotated[int, Field(ge=0, le=65535)]

# In a field's metadata: its value is not shown in errors, because a secret may stand there by
# mistake. Secrets themselves are hidden by their type.
HIDDEN: Final = "hidden"
# Up to the last "@": a password may hold "/" and "@" where somebody forgot to escape them.
_PASSWORD = re.compile(r"(?P<before>://[^/?#@:\s]*):\S*@")
_PASSWORD_IN_QUERY = re.compile(r"(?P<before>[?&](?:ssl)?password=)[^&#\s]*", re.IGNORECASE)
_MASK = "********"


class SecretUrl(Secret[str]):
    """A URL in which a password may stand, and that is shown without the password."""

    def _display(self) -> str:
        return without_password(self.get_secret_value())


def without_password(text: str) -> str:
    """A text with the passwords of URLs in it masked (RFC 3986 3.2.1)."""
    masked = _PASSWORD_IN_QUERY.sub(rf"\g<before>{_MASK}", text)
    return _PASSWORD.sub(rf"\g<before>:{_MASK}@", masked)


def is_secret(annotation: Any, metadata: tuple[Any, ...] = ()) -> bool:
    """Whether a field of this type holds a secret, or may hold one by mistake."""
    if HIDDEN in metadata:
        return True
    if isinstance(annotation, type) and issubclass(annotation, Secret | SecretStr | SecretBytes):
        return True
    return any(is_secret(part) for part in getattr(annotation, "__args__", ()))


class Group(BaseModel):
    """Settings that belong together: frozen, unknown keys are errors, docstrings are the docs."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
