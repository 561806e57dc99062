"""The servers that the service is compared with. Each runs in an environment of its own."""
