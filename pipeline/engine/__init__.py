"""Engine: plan a corpus into units, carry each through its stages once, account for every row.

Glossary
--------
- *store*: a prefix with images and their keys, in one of several forms (`pipeline/stores`).
- *shard*: an object of a store: a Parquet file, or one file of a folder of images.
- *range*: a run of rows of one shard.
- *unit*: a few consecutive ranges; becomes one shard of the output. SEGMENT-NUMBER is its name.
- *segment*: the units that were planned at once; a file below `_transdomain/plan/` that never changes.
- *slot*: a segment with a label, such as a day (`jobs.augment`).
- *part*: folders below `data/` in which the shards of a unit stand, one for each translator of a slot.
- *recipe*: everything that changes a byte of the output; a segment has one, and its *fingerprint* is in every object.
- *stage*: a step of a job on a unit: decode, translate, encode.
- *batch*: a unit on its way through the stages: the rows that are still good, and what happened to the others.
- *account*: what became of every row of a unit; ok + quarantined + skipped = inputs. The data object carries it.
- *quarantined*: left out for good with a reason, in a store of its own below `_quarantine/`.
- *run again*: planned once more in a later segment, after it was quarantined; it counts once, as it is then.
- *skipped*: not wanted by this output, such as a row of another split.
- *commit*: the record that a unit is done, written last, with sizes and checksums.
- *verdict*: stands for the data object where the output is a folder of files: names and checksums of files to come.
- *adopt*: to find a name taken, check that it is of this unit and recipe, and go on with what is there.
- *manifest*: a row for each unit, from all commits. *Mark*: `_SUCCESS`, which says complete, and for which segments.
- *error budget*: how many rows may be quarantined before a run stops, or ends with exit code 3.
- *failpoint*: a named place between two writes where a test can kill the process.
"""
