"""The course: a corpus, a training run, checked exercises, measured results, pages and slides."""
