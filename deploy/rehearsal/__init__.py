"""The manifests on a real API server and kubelet: `python -m deploy.rehearsal --binaries DIR`."""
