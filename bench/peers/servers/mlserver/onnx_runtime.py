"""A runtime of MLServer for ONNX files, of which it has none of its own: what its documentation shows for models of one's own."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class ONNXModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(await get_model_uri(self._settings), options, providers=["CPUExecutionProvider"])
        self.entry = self.session.get_inputs()[0].name
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (answer,) = self.session.run(None, {self.entry: NumpyCodec.decode_input(payload.inputs[0])})
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[NumpyCodec.encode_output("output", answer)])
