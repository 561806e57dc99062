"""From a Bento to where it runs: the image, the manifests of Kubernetes, and their rehearsal."""
