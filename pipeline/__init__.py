"""Jobs around `gan_models`: packing, training, translating, augmenting, evaluating and verifying image stores."""
