"""From files of labelled applications to a registered model, judged, promoted and imported."""
