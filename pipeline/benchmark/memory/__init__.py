"""Memory of every process of the jobs, over corpora that are hard on it."""
