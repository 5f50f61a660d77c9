"""Stores of an evaluation, opened as the configuration says, and the image columns that are compared."""

from __future__ import annotations

from pipeline.errors import UserError
from pipeline.evaluate.config import EvaluateConfig
from pipeline.stores import Store, image_columns, open_store
from pipeline.stores.forms import trees

SOURCE = "source_image"
"""Column of the image that was translated."""


def open_translations(config: EvaluateConfig, url: str) -> Store:
    """Return the store of translations at `url`; with --targets, the pairs of its files and of those there.

    Raises UserError where it cannot be opened, or no two files are a pair.
    """
    options = config.store_options(config.input_column, config.target_column)
    store = open_store(url, options=options)
    if not config.targets:
        return store
    paired, _ = trees.open_paired(store, open_store(config.targets, options=options), config.pair_by)
    return paired


def translation_column(store: Store, config: EvaluateConfig) -> str:
    """Return the column of the translations. Raises UserError where the store does not have it."""
    if config.targets:
        return trees.COLUMNS[0]
    pictures = image_columns(store.schema)
    only = pictures[0] if len(pictures) == 1 else ""
    column = config.input_column or ("image" if "image" in pictures else only)
    if column in pictures:
        return column
    wanted = f"column {column}" if column else "column `image`, of the translations"
    raise UserError(
        f"{store.url}: no image {wanted}; image columns are {', '.join(pictures) or 'none'}; choose with --input_column"
    )


def target_column(store: Store, config: EvaluateConfig, image: str, *, needed: bool) -> str:
    """Return the column of the targets of the translations in `image`; empty where there is none.

    Raises UserError where it is needed, or named, and not there.
    """
    if config.targets:
        return trees.COLUMNS[1]
    pictures = image_columns(store.schema)
    others = [each for each in pictures if each not in (image, SOURCE)]
    column = config.target_column or next((each for each in ("image_b", "image_a") if each in others), "")
    if column in pictures:
        return column
    if needed or config.target_column:
        what = f"no image column {column}" if column else "no target in its rows"
        raise UserError(
            f"{store.url}: {what}; image columns are {', '.join(pictures) or 'none'}; choose --target_column, give "
            "--targets, a folder with files of the same names, or --reference, real images to compare the set with"
        )
    return ""


def open_reference(config: EvaluateConfig) -> tuple[Store, str]:
    """Return the store of the reference, and its image column. Raises UserError where it has none."""
    store = open_store(config.reference, options=config.store_options(config.reference_column))
    pictures = image_columns(store.schema)
    wanted = [config.reference_column] if config.reference_column else ["image", "image_b", "image_a"]
    if not config.reference_column and len(pictures) == 1:
        wanted += pictures
    column = next((each for each in wanted if each in pictures), "")
    if column:
        return store, column
    raise UserError(
        f"{store.url}: no image column {' or '.join(wanted)}; it has {', '.join(pictures) or 'none'}; choose with "
        "--reference_column"
    )
