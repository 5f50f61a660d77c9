"""Read an output again and prove it whole, or name what is wrong with it, and bring it back.

What is compared comes from independent places: the plan says what should be there, the listing what is, the commits
what was written, the objects what they hold now, and the source which keys there were.
"""

from pipeline.verification.repair import clean, repair
from pipeline.verification.verify import Verdict, verify

__all__ = ["Verdict", "clean", "repair", "verify"]
