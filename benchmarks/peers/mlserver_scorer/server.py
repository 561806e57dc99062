"""An MLServer runtime: a tensor of JSON texts in, tensors of decisions out."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from benchmarks.peers.decision import Decider, PredictRequest

_DATATYPES = {
    "probability": "FP64",
    "prediction": "INT64",
    "decision": "BYTES",
    "risk_level": "BYTES",
    "score": "INT64",
}


class CreditScoring(MLModel):
    """This project's scorer behind the Open Inference Protocol."""

    async def load(self) -> bool:
        """Load the model."""
        self.decider = Decider()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Decide on each application."""
        texts = StringCodec.decode_input(payload.inputs[0])
        requests = [PredictRequest.model_validate_json(text) for text in texts]
        decisions = self.decider.decide(requests)
        outputs = [
            ResponseOutput(name=name, shape=[len(decisions), 1], datatype=datatype, data=[d[name] for d in decisions])
            for name, datatype in _DATATYPES.items()
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
