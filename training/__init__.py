"""From files of labelled applications to a registered, promoted and imported model."""
