"""New versions of an output, or of its slots, beside the old ones: made of the same inputs, then read in their place.

`making` claims a version and turns a job into one, `members` are the inputs, `retention` gives up old data.
"""
