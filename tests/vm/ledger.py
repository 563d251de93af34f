# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How many guests a run started, and which of them a second time.

A guest that never came to its program says nothing of the product: it is started once more. One in
fifty may be; more of them is something to be found out, and a failure.
"""

from dataclasses import dataclass, field

IN_GUESTS = 50


@dataclass
class Ledger:
    """Of one process, or of all workers of a run."""

    started: int = 0
    """Guests, not counting second tries."""
    again: list[str] = field(default_factory=list)
    """One line for each that was started a second time."""

    def add(self, data: dict[str, object]) -> None:
        """What another process counted: vars() of its ledger."""
        other = Ledger(**data)  # type: ignore[arg-type]
        self.started += other.started
        self.again += other.again

    @property
    def too_many(self) -> bool:
        """More than one in fifty; the first one is none too many."""
        return len(self.again) > max(1, self.started // IN_GUESTS)

    def lines(self) -> list[str]:
        """What the end of a run says."""
        if not self.started:
            return []
        found = [f"guests: {self.started}, {len(self.again)} of them started a second time"]
        found += [f"  {line}" for line in self.again]
        if self.too_many:
            found.append(f"guests: that is more than one in {IN_GUESTS}, and a failure")
        return found


LEDGER = Ledger()
