"""structlog, without the rich and pygments that it brings where they are installed.

They draw tracebacks on terminals. Our lines are JSON, and each process would carry 5 MB for it.
"""

import sys

_unwanted = "rich" not in sys.modules
if _unwanted:
    # To the import system: there is no such module.
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _unwanted:
        del sys.modules["rich"]

__all__ = ["structlog"]
