"""The HTTP side of the service: the ASGI boundary, requests, the decision engine with its runner, answers, problems."""
