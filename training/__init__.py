"""Training makes models from labelled applications: it fits, judges, registers, promotes and imports them."""
