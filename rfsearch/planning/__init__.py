"""From annotated images to an experiment: what there is, what follows, and the files."""
