"""Read an output again and prove it whole, or name what is wrong with it and repair it.

The facts compared come from independent sources: the plan says what should exist, the listing what does exist, the
commits what was written, the objects what they hold now, and the source which keys there were.
"""

from pipeline.verify.job import Verdict, verify
from pipeline.verify.repair import clean, repair

__all__ = ["Verdict", "clean", "repair", "verify"]
