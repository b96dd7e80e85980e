"""What happens to personal items in prompts, kind by kind."""

from typing import Literal, get_args

from cai.config.base import Config

Kind = Literal["email", "phone", "card", "iban", "key", "ip", "ssn", "name"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Action = Literal["redact", "reject", "keep"]


class PrivacyConfig(Config):
    """`redact` puts a placeholder such as `[EMAIL_1]` in its place, `reject` drops the prompt, `keep` only counts."""

    email: Action = "redact"
    phone: Action = "redact"
    card: Action = "redact"
    iban: Action = "redact"
    key: Action = "redact"
    ip: Action = "redact"
    """Public addresses; those of private networks and of documentation are nobody's, and stay."""
    ssn: Action = "redact"
    name: Action = "keep"
    """Only names after a title or "my name is" are found, and in a red-team prompt the name may be what it is about."""

    def action(self, kind: Kind) -> Action:
        action: Action = getattr(self, kind)
        return action

    def hidden(self) -> tuple[Kind, ...]:
        """The kinds of which nothing may be stored."""
        return tuple(kind for kind in KINDS if self.action(kind) != "keep")
