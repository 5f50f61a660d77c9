"""The stages that the engine runs to translate: decode, translate, encode."""
