"""The forms that a store can have; `FORMS` holds them."""
