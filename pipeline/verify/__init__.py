"""Read an output again and prove it whole, or name what is wrong with it, and bring it back.

What is compared comes from independent places: the plan says what should be there, the listing what is, the commits
what was written, the objects what they hold now, and the source which keys there were.
"""

from pipeline.verify.job import Verdict, verify
from pipeline.verify.repair import clean, repair

__all__ = ["Verdict", "clean", "repair", "verify"]
