"""Distributed training: the process group, its rendezvous, and its resources on the cluster."""
