"""Evaluation of translated stores: scores of each image and of sets, beside baselines, compared with each other."""
