"""Read an output again and prove it whole, or name what is wrong with it and repair it.

The facts compared come from independent sources: the plan says what should exist, the listing what does exist, the
commits what was written, the objects what they hold now, and the source which keys there were.

`job` finds the faults, `repair` mends them.
"""
