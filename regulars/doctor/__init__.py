"""`regulars doctor`: looks at everything that an installation stands on, changes nothing, and says what to do next."""

from regulars.doctor.examine import CHECKS, examine
from regulars.doctor.finding import Finding, Ground, Level

__all__ = ["CHECKS", "Finding", "Ground", "Level", "examine"]
